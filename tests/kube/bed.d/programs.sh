# shellcheck shell=bash
# Starts and ends long-running programs. One is called NAME (of the machine) or NODE/NAME (of a node); $run/programs/NAME.cmd
# is its command line, NAME.pid its process, $run/log/NAME.log what it prints.

define() {
    local name=$1
    shift
    mkdir -p "$(dirname "$run/programs/$name")" "$(dirname "$run/log/$name")"
    printf '%s\0' "$@" >"$run/programs/$name.cmd"
}

# The process of a program, if it runs. All command lines contain $run.
pid_of() {
    local pid
    pid=$(cat "$run/programs/$1.pid" 2>/dev/null) && grep -qaF "$run/" "/proc/$pid/cmdline" 2>/dev/null && echo "$pid"
}

# Prints a command prefix, an argument a line, that enters the namespaces of a node.
# `ip netns exec` would mount another /sys, without the cgroups below it.
enter() {
    local anchor
    anchor=$(pid_of "$1/anchor") || die "node $1 is not up"
    printf '%s\n' nsenter --target "$anchor" --net --mount --uts --
}

start() {
    local name=$1 command inside lines
    if pid_of "$name" >/dev/null; then return; fi
    [ -e "$run/programs/$name.cmd" ] || die "no program is called '$name'; there are: $(program_names)"
    mapfile -d '' -t command <"$run/programs/$name.cmd"
    case $name in
        */anchor) ;;
        */*)
            lines=$(enter "${name%/*}") || exit 1
            mapfile -t inside <<<"$lines"
            command=("${inside[@]}" "${command[@]}")
            ;;
    esac
    # A session of its own: what ends the bed's process group leaves it alone.
    setsid "${command[@]}" >>"$run/log/$name.log" 2>&1 </dev/null 9<&- &
    echo $! >"$run/programs/$name.pid"
}

# Nothing of it is kept, so nothing needs to be put in order.
end() {
    local pid
    pid=$(pid_of "$1") || die "$1 does not run"
    kill -KILL "$pid"
    wait_for 10 gone "$pid" || die "$1 does not end"
}

# Its sockets are closed only when the last thread is.
gone() {
    [ ! -e "/proc/$1" ] || { grep -q '^State:.Z' "/proc/$1/status" && [ "$(find "/proc/$1/task" -mindepth 1 -maxdepth 1 | wc -l)" = 1 ]; }
}

signal() {
    local pid
    pid=$(pid_of "$2") || die "$2 does not run"
    kill "-$1" "$pid"
}

restart() {
    if pid_of "$1" >/dev/null; then end "$1"; fi
    start "$1"
    case $1 in
        apiserver) await_apiserver ;;
        */containerd) await_containerd "${1%/*}" ;;
    esac
}

program_names() {
    find "$run/programs" -name '*.cmd' ! -name anchor.cmd -printf '%P\n' 2>/dev/null | sed 's/\.cmd$//' | sort | tr '\n' ' ' || :
}
