# shellcheck shell=bash
# Compiles programs into the cache. A program is there if $bin/PROGRAM.from is the checksum of the module that it was made from.

# GROUP MODULE PROGRAM PACKAGE, in the order of building: what comes later shares most of what was compiled before.
programs() {
    cat <<'TABLE'
kubernetes kubernetes kube-apiserver k8s.io/kubernetes/cmd/kube-apiserver
kubernetes kubernetes kube-controller-manager k8s.io/kubernetes/cmd/kube-controller-manager
kubernetes kubernetes kube-scheduler k8s.io/kubernetes/cmd/kube-scheduler
kubernetes kubernetes kubelet k8s.io/kubernetes/cmd/kubelet
kubernetes kubernetes kube-proxy k8s.io/kubernetes/cmd/kube-proxy
kubernetes kubernetes kubectl k8s.io/kubernetes/cmd/kubectl
kubernetes kubernetes agnhost k8s.io/kubernetes/test/images/agnhost
e2e kubernetes e2e.test k8s.io/kubernetes/test/e2e
etcd etcd etcd go.etcd.io/etcd/server/v3
containerd containerd containerd github.com/containerd/containerd/v2/cmd/containerd
containerd containerd containerd-shim-runc-v2 github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2
containerd containerd ctr github.com/containerd/containerd/v2/cmd/ctr
plugins plugins cni/loopback github.com/containernetworking/plugins/plugins/main/loopback
plugins plugins cni/ptp github.com/containernetworking/plugins/plugins/main/ptp
plugins plugins cni/host-local github.com/containernetworking/plugins/plugins/ipam/host-local
plugins plugins cni/portmap github.com/containernetworking/plugins/plugins/meta/portmap
coredns coredns coredns .
crictl crictl crictl sigs.k8s.io/cri-tools/cmd/crictl
e2e ginkgo ginkgo github.com/onsi/ginkgo/v2/ginkgo
TABLE
}

checksum() {
    cat "$here/gomod/$1"/* | sha256sum
}

# Prints the lines of the table that are wanted and not in the cache.
missing_programs() {
    local wanted=" $* " group module program package
    while read -r group module program package; do
        case $wanted in *" $group "* | *" all "*) ;; *) continue ;; esac
        [ -x "$bin/$program" ] && [ "$(cat "$bin/$program.from" 2>/dev/null)" = "$(checksum "$module")" ] && continue
        echo "$group $module $program $package"
    done < <(programs)
}

not_run() {
    echo "NOT RUN: the Kubernetes test bed: $*"
    exit 77
}

# Whether this Go, or the one that it fetches as go.mod asks, is new enough.
go_suits() {
    local version
    version=$(cd "$here/gomod/etcd" && "$1" version 2>/dev/null) || return 1
    [[ $version =~ go1\.([0-9]+) ]] && [ "${BASH_REMATCH[1]}" -ge 26 ]
}

# Finds Go: the one in PATH, one that is installed elsewhere, or Debian's newest.
find_go() {
    local package
    for go in go /usr/local/go/bin/go /usr/lib/go-*/bin/go; do
        if go_suits "$go"; then return; fi
    done
    package=$(apt-cache pkgnames golang-1. 2>/dev/null | grep -xE 'golang-1\.[0-9]+-go' | sort -V | tail -n 1) || :
    [ -n "$package" ] || return 1
    # Since 1.21 Go fetches the Go that go.mod asks for.
    [ "$(cut -d. -f 2 <<<"${package%-go}")" -ge 21 ] || return 1
    say "installing $package"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >/dev/null 2>&1 || return 1
    go=/usr/lib/${package%-go}/bin/go
    go=${go/golang-/go-}
    go_suits "$go"
}

# Fetches one small module into a cache of its own.
proxy_answers() {
    local modules status=0
    modules=$(mktemp -d)
    (cd "$here/gomod/ginkgo" && GOFLAGS=-modcacherw GOMODCACHE=$modules "$go" mod download golang.org/x/sync) >/dev/null 2>&1 || status=1
    rm -rf "$modules"
    return "$status"
}

# Fetches what the missing programs of one module import. Compiling then needs no network.
fetch() {
    local module=$1 start program package tests output
    start=$(milliseconds)
    while read -r program package; do
        tests=()
        [[ $program != *.test ]] || tests=(-test)
        output=$(cd "$here/gomod/$module" && "$go" list -deps "${tests[@]}" "$package" 2>&1 >/dev/null) || {
            proxy_answers || not_run "Go's module proxy cannot be reached, and its cache lacks modules of $program"
            echo "$output" >&2
            die "fetching modules of $program failed"
        }
    done < <(awk -v module="$module" '$2 == module { print $3, $4 }' <<<"$missing")
    say "modules of $module are there, $(since "$start")"
}

compile() {
    local module=$1 program=$2 package=$3 out=$bin/$2 start flags="-s -w" version variables
    start=$(milliseconds)
    local command=(build)
    [ "$program" != e2e.test ] || command=(test -c -vet=off)
    if [ "$module" = kubernetes ]; then
        version=$(sed -nE 's#^.*k8s.io/kubernetes (v[0-9.]+)$#\1#p' "$here/gomod/kubernetes/go.mod")
        for variables in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
            flags+=" -X $variables.gitVersion=$version -X $variables.gitTreeState=clean"
            flags+=" -X $variables.gitMajor=1 -X $variables.gitMinor=$(cut -d. -f2 <<<"$version")"
        done
    fi
    (cd "$here/gomod/$module" && nice -n 10 "$go" "${command[@]}" -ldflags "$flags" -o "$out.tmp" "$package")
    mv "$out.tmp" "$out"
    checksum "$module" >"$out.from"
    say "compiled $program in $(since "$start"), $(($(stat -c %s "$out") >> 20)) MB"
}

# Compiles the missing programs whose module is Kubernetes (`-`), or those of the others (`-v`).
lane() {
    local module program package
    while read -r _ module program package; do
        compile "$module" "$program" "$package"
    done < <(awk -v others="$1" '($2 == "kubernetes") != (others == "-v")' <<<"$missing")
}

build() {
    local missing go start status=0 module modules known other kubernetes
    [ $# -gt 0 ] || set -- etcd containerd plugins kubernetes coredns
    known=" all $(programs | cut -d ' ' -f 1 | sort -u | tr '\n' ' ')"
    for module in "$@"; do
        [[ $known == *" $module "* ]] || die "nothing to build is called '$module'"
    done
    mkdir -p "$bin/cni"
    start=$(milliseconds)
    (
        flock -n 8 || {
            say "waits for another build"
            flock 8
        }
        missing=$(missing_programs "$@")
        [ -n "$missing" ] || { say "all programs are in the cache" && exit; }
        # Less garbage collection: more memory for less time.
        export GOGC=400 CGO_ENABLED=0 GOFLAGS="-mod=readonly -trimpath -buildvcs=false" GOTOOLCHAIN=${GOTOOLCHAIN:-auto}
        find_go || not_run "needs Go 1.26 or newer, to compile $(wc -l <<<"$missing") programs"
        mapfile -t modules < <(cut -d ' ' -f 2 <<<"$missing" | sort -u)
        for module in "${modules[@]}"; do
            fetch "$module"
        done
        # Two at a time: linking, the end of each, keeps only one core busy.
        lane -v &
        other=$!
        lane - &
        kubernetes=$!
        wait "$other" || status=1
        wait "$kubernetes" || status=1
        [ "$status" = 0 ] || die "compiling failed"
        say "compiled $(wc -l <<<"$missing") programs, $(since "$start")"
    ) 8<"$bin"
}
