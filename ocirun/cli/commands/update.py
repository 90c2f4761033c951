"""`update ID`: other limits for a container that exists."""

from typing import Annotated

import typer

from ocirun.cli import hot
from ocirun.cli.commands import common
from ocirun.cli.gostyle import Command


def _limit(metavar: str, help: str, hidden: bool = False) -> object:
    return typer.Option(metavar=metavar, help=help, show_default=False, hidden=hidden)


def update(
    ctx: typer.Context,
    id: common.ContainerId,
    resources: Annotated[
        str,
        typer.Option(
            "--resources",
            "-r",
            metavar="FILE",
            help="Take all limits from FILE, JSON as linux.resources; - is standard input.",
            show_default=False,
        ),
    ] = "",
    blkio_weight: Annotated[str, _limit("N", "Weight of block IO, 10 to 1000.")] = "",
    cpu_period: Annotated[str, _limit("US", "Period of CPU time, in microseconds.")] = "",
    cpu_quota: Annotated[str, _limit("US", "CPU time in a period; -1 for no limit.")] = "",
    cpu_burst: Annotated[str, _limit("US", "CPU time that may be saved up.")] = "",
    cpu_share: Annotated[str, _limit("N", "Weight of CPU time against others.")] = "",
    cpu_rt_period: Annotated[str, _limit("US", "Period of realtime scheduling.")] = "",
    cpu_rt_runtime: Annotated[str, _limit("US", "Realtime in a period.")] = "",
    cpu_idle: Annotated[str, _limit("0|1", "1: run only when nobody else wants to.")] = "",
    cpuset_cpus: Annotated[str, _limit("LIST", "CPUs to use, such as 0-2,7.")] = "",
    cpuset_mems: Annotated[str, _limit("LIST", "Memory nodes to use.")] = "",
    memory: Annotated[str, _limit("SIZE", "Limit of memory, such as 64M; -1 for none.")] = "",
    memory_reservation: Annotated[str, _limit("SIZE", "Soft limit of memory.")] = "",
    memory_swap: Annotated[str, _limit("SIZE", "Limit of memory and swap together.")] = "",
    pids_limit: Annotated[str, _limit("N", "Limit of processes; -1 for none.")] = "",
    l3_cache_schema: Annotated[str, _limit("LINE", "Intel RDT: share of the L3 cache.")] = "",
    mem_bw_schema: Annotated[str, _limit("LINE", "Intel RDT: share of memory bandwidth.")] = "",
    kernel_memory: Annotated[str, _limit("SIZE", "Ignored.", hidden=True)] = "",
    kernel_memory_tcp: Annotated[str, _limit("SIZE", "Ignored.", hidden=True)] = "",
) -> int:
    """Change the limits of a container; those that are not named stay as they are.

    SIZE is a number of bytes, or one like 512K, 64M or 1.5G. If the kernel refuses one of the
    limits, those that have been changed are taken back.
    """
    return hot.update(
        ctx.obj,
        id=id,
        resources=resources,
        blkio_weight=blkio_weight,
        cpu_period=cpu_period,
        cpu_quota=cpu_quota,
        cpu_burst=cpu_burst,
        cpu_share=cpu_share,
        cpu_rt_period=cpu_rt_period,
        cpu_rt_runtime=cpu_rt_runtime,
        cpu_idle=cpu_idle,
        cpuset_cpus=cpuset_cpus,
        cpuset_mems=cpuset_mems,
        memory=memory,
        memory_reservation=memory_reservation,
        memory_swap=memory_swap,
        pids_limit=pids_limit,
        l3_cache_schema=l3_cache_schema,
        mem_bw_schema=mem_bw_schema,
        kernel_memory=kernel_memory,
        kernel_memory_tcp=kernel_memory_tcp,
    )


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    epilog = common.examples(
        "ocirun update --memory 64M --pids-limit 100 web",
        "ocirun update --resources limits.json web",
    )
    app.command("update", cls=Command, epilog=epilog)(update)
