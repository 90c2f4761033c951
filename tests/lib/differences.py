"""Where runc and crun differ from what the end-to-end tests expect, and why.

A key is the module without "test_", "::", and the name of a test, with its
parameters or without (then it means all of them). What is in DIFFERENCES must
fail with that runtime (a strict xfail), so that the table can't grow stale. The
versions are those of Debian 12: runc 1.1.5 and crun 1.8.1.
"""

Table = dict[str, dict[str, str]]

NO_TIME = "1.1 has no time namespaces"
RECURSIVE = "takes the option for data of the file system"
CRUN_IDS = "checks an id for little more than slashes"
CRUN_PEERS = "makes the parent of the rootfs private, so that there is no master"

DIFFERENCES: Table = {
    "runc": {
        "devices::test_device_over_a_standard_one": "drops the cgroup rule of the standard device",
        "lifecycle::test_kill_with_an_unknown_signal[]": "an empty name means SIGTERM",
        "mounts::test_options_of_the_file_system[defaults]": RECURSIVE,
        "mounts::test_bind_mount_keeps_locked_flags_of_its_source": "1.1 loses locked flags",
        "mounts::test_recursive_flags_that_clear[ratime]": "asks the kernel for a wrong mask",
        "mounts::test_recursive_flags_that_clear[rnostrictatime]": "asks for a wrong mask",
        "mounts::test_unknown_option_goes_to_the_file_system": "mode= gives way to the folder's",
        "namespaces::test_new[time]": NO_TIME,
        "namespaces::test_all_eight_new_at_once": NO_TIME,
        "namespaces::test_join_time": NO_TIME,
        "namespaces::test_time_offsets": NO_TIME,
        "namespaces::test_join_user": "wants mappings for a namespace that has them already",
        "namespaces::test_domainname": "1.1 does not know domainname",
        "root::test_propagation[shared-peers5]": "sets it before its own private mounts",
        "root::test_propagation[rshared-peers6]": "sets it before its own private mounts",
        "root::test_propagation[unbindable-peers7]": "then cannot bind the rootfs",
        "root::test_propagation[runbindable-peers8]": "then cannot bind the rootfs",
        "root::test_rootfs_through_a_symlink": "refuses a rootfs that is a symlink",
    },
    "crun": {
        "lifecycle::test_names_of_signals[kill]": "wants upper case",
        "lifecycle::test_names_of_signals[sigkill]": "wants upper case",
        "lifecycle::test_hostile_ids[create-a b]": CRUN_IDS,
        "lifecycle::test_hostile_ids[create-\\xe4]": CRUN_IDS,
        "lifecycle::test_hostile_ids[create-a\\nb]": CRUN_IDS,
        "lifecycle::test_hostile_ids[run-a b]": CRUN_IDS,
        "lifecycle::test_hostile_ids[run-\\xe4]": CRUN_IDS,
        "lifecycle::test_hostile_ids[run-a\\nb]": CRUN_IDS,
        "lifecycle::test_hostile_ids_of_existing_folders": CRUN_IDS,
        "mounts::test_flags_of_a_tmpfs[nosymfollow]": "1.8 does not know it",
        "mounts::test_flags_of_a_tmpfs[symfollow]": "1.8 does not know it",
        "mounts::test_flags_of_a_bind_mount[nosymfollow]": "1.8 does not know it",
        "mounts::test_nosymfollow_works": "1.8 does not know it",
        "mounts::test_options_of_the_file_system[iversion]": RECURSIVE,
        "mounts::test_options_of_the_file_system[noiversion]": RECURSIVE,
        "mounts::test_options_of_the_file_system[silent]": RECURSIVE,
        "mounts::test_options_of_the_file_system[loud]": RECURSIVE,
        "mounts::test_the_last_of_two_options_that_exclude_each_other_wins": "ro stays",
        "mounts::test_bind_mount_keeps_locked_flags_of_its_source": "loses locked flags",
        "mounts::test_propagation[slave-peers4]": CRUN_PEERS,
        "mounts::test_propagation[rslave-peers5]": CRUN_PEERS,
        "mounts::test_propagation[unbindable-peers6]": "ignores it on a mount",
        "mounts::test_propagation[runbindable-peers7]": "ignores it on a mount",
        "mounts::test_recursive_flags[rnodiratime-nodiratime]": RECURSIVE,
        "mounts::test_recursive_flags[rnoatime-noatime]": RECURSIVE,
        "mounts::test_recursive_flags[rnosymfollow-nosymfollow]": "1.8 does not know it",
        "mounts::test_recursive_flags_that_clear[rdiratime]": RECURSIVE,
        "mounts::test_recursive_flags_that_clear[ratime]": RECURSIVE,
        "mounts::test_recursive_flags_that_clear[rstrictatime]": RECURSIVE,
        "mounts::test_recursive_flags_that_clear[rnostrictatime]": RECURSIVE,
        "mounts::test_symlinks_in_the_image_stay_in_the_image[mnt/link-/not/yet/there-/mnt/link-/not/yet/there]": "cannot make what a dangling symlink points to",
        "namespaces::test_new[time]": "1.8 only with a user namespace",
        "namespaces::test_join_time": "1.8 cannot join one",
        "namespaces::test_time_offsets": "1.8 only with a user namespace",
        "root::test_propagation[slave-peers3]": CRUN_PEERS,
        "root::test_propagation[rslave-peers4]": CRUN_PEERS,
        "root::test_propagation[runbindable-peers8]": "shows it as private",
    },
    "ocirun": {},
}

# What leaves things behind or goes either way with that runtime.
NOT_RUN: Table = {
    "runc": {
        "lifecycle::test_two_creates_of_one_id_at_once": "both may fail, and a cgroup stay behind",
    },
    "crun": {},
    "ocirun": {},
}


def known(table: Table, kind: str, test: str) -> str:
    """The reason that the table has for the test, or ""."""
    reasons = table.get(kind, {})
    return reasons.get(test) or reasons.get(test.split("[")[0], "")
