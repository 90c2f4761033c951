"""Where runc and crun differ from what the end-to-end tests expect, and why.

A key is the module without "test_", "::", and the name of a test, with its
parameters or without (then it means all of them). What is in DIFFERENCES must
fail with that runtime (a strict xfail), so that the table can't grow stale.
"""

VERSIONS = "The versions are those of Debian 12: runc 1.1.5 and crun 1.8.1."

Table = dict[str, dict[str, str]]

NO_TIME = "1.1 has no time namespaces"
RECURSIVE = "takes the option for data of the file system"
CRUN_IDS = "checks an id for little more than slashes"
RUNC_POSTSTART = "1.1 calls poststart hooks at the end of create"
CRUN_CREATED = "says `created`"
CRUN_OPEN = "says `open executable: Operation not permitted` of what is no regular file"
CRUN_IDMAP = "1.8 maps and shows the top mount only"
CRUN_PEERS = "makes the parent of the rootfs private, so that there is no master"

DIFFERENCES: Table = {
    "runc": {
        "streams::test_signals_that_the_caller_blocks": "hands the mask on",
        "security::test_waiting_process_cannot_be_looked_into": "is dumpable then, but a clone",
        "errors::test_full_disk": "loses the reason",
        "security::test_huge_fields[data]": "drops data longer than a page",
        "hooks::test_order": RUNC_POSTSTART,
        "hooks::test_run_calls_all": RUNC_POSTSTART,
        "hooks::test_state_on_stdin[poststart-running]": RUNC_POSTSTART,
        "hooks::test_failing_poststop_hook_does_not_keep_the_container": "stops at the first",
        "process::test_user[4294967294-4294967294]": "knows ids below 2^31 only",
        "process::test_user[1000-1000-[7, 8, 4000000000]]": "knows ids below 2^31 only",
        "process::test_same_limit_twice": "takes the last",
        "process::test_personality[LINUX32]": "1.1 does not know personality",
        "streams::test_preserve_fds_that_are_not_open": "hands over descriptors of its own",
        "terminal::test_console_socket_with_a_long_path": "is bound to 107 bytes",
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
        "root::test_propagation[shared-peers4]": "sets it before its own private mounts",
        "root::test_propagation[rshared-peers5]": "sets it before its own private mounts",
        "root::test_propagation[unbindable-peers6]": "then cannot bind the rootfs",
        "root::test_propagation[runbindable-peers7]": "then cannot bind the rootfs",
        "rootless::test_ranges": "sets no additional groups for a user, whatever is mapped",
        "root::test_rootfs_through_a_symlink": "refuses a rootfs that is a symlink",
        "spec_table::test_row[personality]": "1.1 does not know personality",
        "spec_table::test_row[domainname]": "1.1 does not know domainname",
        "spec_table::test_row[mount-defaults]": RECURSIVE,
        "spec_table::test_row[mount-data]": "mode= gives way to the folder's",
        "spec_table::test_row[propagation-shared]": "sets it before its own private mounts",
        "spec_table::test_row[propagation-unbindable]": "then cannot bind the rootfs",
        "spec_table::test_row[time-offsets]": NO_TIME,
    },
    "crun": {
        "errors::test_config_that_is_a_folder": "says only that it cannot read it",
        "rootless::test_terminal": "tries newgidmap first, which says why it cannot",
        "errors::test_no_process": "fails by accident later",
        "errors::test_no_args": "fails by accident later",
        "errors::test_no_privilege": "says No such file or directory of a folder it cannot make",
        "errors::test_no_cgroups_to_write_to": "says No such file or directory of it",
        "security::test_leaked_descriptor[cwd-30]": "1.8 has CVE-2024-21626",
        "security::test_leaked_descriptor[link-30]": "1.8 has CVE-2024-21626",
        "security::test_leaked_descriptor[cwd-45]": "1.8 has CVE-2024-21626",
        "security::test_leaked_descriptor[link-45]": "1.8 has CVE-2024-21626",
        "security::test_leaked_descriptor[cwd-60]": "1.8 has CVE-2024-21626",
        "security::test_leaked_descriptor[link-60]": "1.8 has CVE-2024-21626",
        "security::test_huge_fields[data]": "drops data longer than a page",
        "security::test_something_else_for_dev_null[fifo]": "1.8 has CVE-2025-31133",
        "security::test_something_else_for_dev_null[other-device]": "1.8 has CVE-2025-31133",
        "security::test_cgroups_are_readonly_inside": "1.8 leaves the folder above them writable",
        "hooks::test_state_on_stdin[prestart-creating]": CRUN_CREATED,
        "hooks::test_state_on_stdin[createRuntime-creating]": CRUN_CREATED,
        "hooks::test_state_on_stdin[createContainer-creating]": CRUN_CREATED,
        "hooks::test_state_on_stdin[startContainer-created]": "says `starting`",
        "hooks::test_missing_hook": "says only what status its own child had",
        "hooks::test_relative_path_of_a_hook": "looks it up in PATH",
        "hooks::test_what_a_failing_hook_says_is_in_the_message": "lets the hook speak for itself",
        "process::test_user_out_of_range[4294967295]": "setuid(-1) changes nothing",
        "process::test_user_out_of_range[0]": "takes a string for a number",
        "process::test_user_out_of_range[True]": "takes true for a number",
        "streams::test_socket_activation": "passes the descriptors, not the variables",
        "process::test_bad_cwd[relative]": "takes it as relative to /",
        "process::test_program_that_cannot_be_executed[folder-permission denied|is a directory-run]": CRUN_OPEN,
        "process::test_program_that_cannot_be_executed[folder-permission denied|is a directory-create]": CRUN_OPEN,
        "process::test_program_that_cannot_be_executed[empty_name-no such file or directory|executable file not found|is empty-run]": CRUN_OPEN,
        "process::test_program_that_cannot_be_executed[empty_name-no such file or directory|executable file not found|is empty-create]": CRUN_OPEN,
        "streams::test_closed_streams": "wants all three streams open",
        "streams::test_preserve_fds_that_are_not_open": "does not look",
        "terminal::test_size_at_the_start": "does not pass the size on",
        "terminal::test_change_of_size": "does not pass the size on",
        "terminal::test_console_socket_without_a_terminal": "does not mind",
        "lifecycle::test_names_of_signals[kill]": "wants upper case",
        "lifecycle::test_names_of_signals[sigkill]": "wants upper case",
        "lifecycle::test_hostile_ids[create-a b]": CRUN_IDS,
        "lifecycle::test_hostile_ids[create-\\xe4]": CRUN_IDS,
        "lifecycle::test_hostile_ids[create-a\\nb]": CRUN_IDS,
        "lifecycle::test_hostile_ids[run-a b]": CRUN_IDS,
        "lifecycle::test_hostile_ids[run-\\xe4]": CRUN_IDS,
        "lifecycle::test_hostile_ids[run-a\\nb]": CRUN_IDS,
        "lifecycle::test_hostile_ids_of_existing_folders": CRUN_IDS,
        "idmap::test_mappings_of_the_container[ridmap]": CRUN_IDMAP,
        "idmap::test_ridmap_maps_what_is_mounted_below": CRUN_IDMAP,
        "idmap::test_flags_go_with_it": CRUN_IDMAP,
        "idmap::test_source_that_the_namespaces_root_cannot_reach[options2]": CRUN_IDMAP,
        "idmap::test_lone_folder_with_a_mount_below_in_a_user_namespace": "shows what it covers",
        "idmap::test_bad_mappings[one-kind]": "says only invalid argument",
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
        "root::test_propagation[slave-peers2]": CRUN_PEERS,
        "root::test_propagation[rslave-peers3]": CRUN_PEERS,
        "root::test_propagation[runbindable-peers7]": "shows it as private",
        "spec_table::test_row[mount-nosymfollow]": "1.8 does not know it",
        "spec_table::test_row[mount-shared]": "ignores it on a mount",
        "spec_table::test_row[mount-rshared]": "ignores it on a mount",
        "spec_table::test_row[mount-unbindable]": "ignores it on a mount",
        "spec_table::test_row[time-offsets]": "1.8 only with a user namespace",
    },
    "ocirun": {},
}

# What leaves things behind or goes either way with that runtime.
NOT_RUN: Table = {
    "runc": {
        "security::test_something_else_for_dev_null[fifo]": "waits for a writer",
        "security::test_something_else_for_dev_null[other-device]": "reads /dev/zero for ever",
        "security::test_symlinks_in_dev": "1.1.5 has CVE-2025-52565 and others",
        "lifecycle::test_two_creates_of_one_id_at_once": "both may fail, and a cgroup stay behind",
    },
    "crun": {
        "lifecycle::test_two_creates_of_one_id_at_once": "the loser's message varies",
        "errors::test_full_disk": "leaves the container behind",
        "errors::test_pid_file_on_a_full_disk": "leaves the container behind",
        "security::test_huge_fields[destination]": "makes 35000 folders, one in the other",
        "cgroups::test_path_stays_in_the_hierarchy": "makes folders beside the hierarchies",
        "cgroups::test_limits[cpu/quota--1-cpu-cpu.cfs_quota_us--1]": "fails, leaving cgroups",
        "hooks::test_failing_start_container_hook": "sometimes loses the message",
        "hooks::test_timeout[createContainer]": "sometimes loses the message",
        "cgroups::test_impossible_limits": "leaves cgroups behind",
    },
    "ocirun": {},
}


def known(table: Table, kind: str, test: str) -> str:
    """The reason that the table has for the test, or ""."""
    reasons = table.get(kind, {})
    return reasons.get(test) or reasons.get(test.split("[", maxsplit=1)[0], "")
