# shellcheck shell=bash
# Which bed is up, and the removal of all that one made.

# Whether the bed that the marker names is in use, or was left over by a script or test that was killed.
in_use() {
    local folder=$1 owner=$2
    if [ -n "$owner" ]; then
        [ "$owner" != "${KUBE_OWNER:-}" ] && kill -0 "$owner" 2>/dev/null
    else
        [ -e "$folder/complete" ] && run=$folder pid_of apiserver >/dev/null
    fi
}

# Sets folder, owner and maker, the process of the script that made the bed.
read_marker() {
    folder="" owner="" maker=""
    [ -s "$marker" ] && { read -r folder && read -r owner && read -r maker; } <"$marker"
}

# Makes this the bed of the machine. Removes leftovers first.
claim() {
    local folder owner maker
    if read_marker; then
        ! in_use "$folder" "$owner" || die "a bed is up in $folder; to remove it: KUBE_RUN=$folder $0 down"
        run=$folder down quiet
    fi
    down quiet
    mkdir -p "$run/log"
    printf '%s\n' "$run" "${KUBE_OWNER:-}" "$$" >"$marker"
}

# Removes the bed if it is this very script that was making it.
undo() {
    local folder owner maker
    if read_marker && [ "$maker" = "$$" ]; then down quiet; fi
}

not_of_another() {
    local folder owner maker
    if read_marker && [ "$folder" != "$run" ] && in_use "$folder" "$owner"; then
        die "the bed that is up is in $folder; to remove it: KUBE_RUN=$folder $0 down"
    fi
}

# Numbers of the nodes of which anything is left.
left_nodes() {
    local root
    {
        find "$run/nodes" /run/netns -maxdepth 1 \( -name 'n[0-9]*' -o -name 'kt-n[0-9]*' \) || :
        for root in $(cgroup_roots); do
            find "$root" -maxdepth 1 -name 'kt-n[0-9]*'
        done
    } 2>/dev/null | sed 's/.*n//' | sort -nu
}

# Processes of this bed: its programs, whose arguments name its folder; all in the network namespaces or cgroups of its nodes.
left_processes() {
    local process words i root
    for process in /proc/[0-9]*; do
        mapfile -d '' -t words <"$process/cmdline" || continue
        [[ "${words[*]}" == *"$run/"* ]] || continue
        case ${words[0]##*/} in
            etcd | kube* | containerd | anchor | setsid | nsenter | unshare) echo "${process#/proc/}" ;;
        esac
    done 2>/dev/null
    for i in $(left_nodes); do
        ip netns pids "kt-n$i" 2>/dev/null || :
        for root in $(cgroup_roots); do
            find "$root/kt-n$i" -name cgroup.procs -exec cat {} + 2>/dev/null || :
        done
    done
}

# A process may fork while it is looked for, so look until none is left.
end_processes() {
    local pids
    pids=$(left_processes | sort -nu)
    [ -n "$pids" ] || return 0
    xargs kill -KILL <<<"$pids" 2>/dev/null || :
    return 1
}

remove_cgroups() {
    local root left=0
    for root in $(cgroup_roots); do
        [ ! -d "$root/kt-n$1" ] || find "$root/kt-n$1" -depth -type d -exec rmdir {} + 2>/dev/null || left=1
    done
    return "$left"
}

down() {
    local i
    wait_for 20 end_processes || die "some processes do not end: $(left_processes | tr '\n' ' ')"
    for i in $(left_nodes); do
        ip netns del "kt-n$i" 2>/dev/null || :
        ip link del "ktn$i" 2>/dev/null || :
        wait_for 10 remove_cgroups "$i" || die "cgroups of node n$i cannot be removed"
    done
    # Routes over the bridge are removed with it.
    ip link del kt0 2>/dev/null || :
    [ ! -s "$run/sysctl.saved" ] || sysctl -qp "$run/sysctl.saved" >/dev/null
    [ ! -s "$run/made-folders" ] || tac "$run/made-folders" | xargs rmdir --ignore-fail-on-non-empty 2>/dev/null || :
    rm -rf --one-file-system "$run"/{nodes,etcd,pki,programs,complete,settings,kubeconfig,registries.yaml,sysctl.saved,made-folders}
    [ -n "${KUBE_KEEP_LOGS:-}" ] || rm -rf "$run/log"
    rmdir "$run" 2>/dev/null || :
    rm -f "$marker"
    [ "${1:-}" = quiet ] || say "down"
}
