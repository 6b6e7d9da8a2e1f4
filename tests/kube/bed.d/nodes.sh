# shellcheck shell=bash
# Nodes: namespaces, and in them containerd, the kubelet and kube-proxy.

node_folders=(var/lib/kubelet var/lib/containerd run/containerd run/netns var/lib/cni etc/cni/net.d opt/cni/bin
    var/log/pods var/log/containers etc/kubernetes/manifests run/roadbed var/lib/roadbed)
reference_plugins=(loopback ptp host-local portmap)

cgroup_roots() {
    awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/self/mounts | sort -u
}

# Makes a folder of this machine, which node folders are mounted on. `down` removes the ones that were made.
mount_point() {
    local path="" part
    for part in ${1//\// }; do
        path+=/$part
        [ -d "$path" ] || { mkdir "$path" && echo "$path" >>"$run/made-folders"; }
    done
}

bridge() {
    # Settings of the whole machine: the kubelets change the first ones, this function the last two.
    sysctl vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops kernel.keys.root_maxkeys \
        kernel.keys.root_maxbytes net.ipv4.ip_forward net.ipv6.conf.all.forwarding >"$run/sysctl.saved"
    ip link add kt0 type bridge
    ip link set kt0 up
    ip addr add 10.200.0.1/24 dev kt0
    sysctl -qw net.ipv4.ip_forward=1
    if [ -n "$dual" ]; then
        ip addr add fd00:10:200::1/64 dev kt0 nodad
        sysctl -qw net.ipv6.conf.all.forwarding=1
    fi
}

node_link() {
    local i=$1 netns=kt-n$1
    ip netns add "$netns"
    ip link add "ktn$i" type veth peer name eth0 netns "$netns"
    ip link set "ktn$i" master kt0 up
    ip -n "$netns" link set lo up
    ip -n "$netns" link set eth0 up
    ip -n "$netns" addr add "10.200.0.$((10 + i))/24" dev eth0
    ip -n "$netns" route add default via 10.200.0.1
    ip netns exec "$netns" sysctl -qw net.ipv4.ip_forward=1
    if [ -n "$dual" ]; then
        ip -n "$netns" addr add "fd00:10:200::$((10 + i))/64" dev eth0 nodad
        ip -n "$netns" route add default via fd00:10:200::1
        ip netns exec "$netns" sysctl -qw net.ipv6.conf.all.forwarding=1
    fi
}

node_cgroup() {
    local root file controllers
    for root in $(cgroup_roots); do
        # The kubelet wants its root in every v1 hierarchy. An empty cpuset takes no process.
        if [ -e "$root/cgroup.controllers" ]; then
            read -ra controllers <"$root/cgroup.controllers" || :
            for file in "${controllers[@]}"; do
                echo "+$file" >"$root/cgroup.subtree_control" || :
            done
        fi
        mkdir -p "$root/kt-$1"
        for file in cpuset.cpus cpuset.mems; do
            [ ! -e "$root/$file" ] || cat "$root/$file" >"$root/kt-$1/$file"
        done
    done 2>/dev/null
}

containerd_config() {
    # restrict_oom_score_adj: without CAP_SYS_RESOURCE, a negative oom_score_adj makes runc fail.
    # What is disabled has paths outside of the node's own folders.
    cat <<TOML
version = 3
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing", "io.containerd.nri.v1.nri"]
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "localhost/pause:3.10.2"
[plugins.'io.containerd.cri.v1.runtime']
  disable_apparmor = true
  restrict_oom_score_adj = true
TOML
}

kubelet_config() {
    cat <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: "$run/pki/ca.crt"}}
authorization: {mode: Webhook}
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: /kt-$1
enforceNodeAllocatable: []
failSwapOn: false
makeIPTablesUtilChains: false
maxPods: 150
staticPodPath: /etc/kubernetes/manifests
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}
imageGCHighThresholdPercent: 100
${KUBE_KUBELET_CONF:-}
YAML
}

# Runs in the new namespaces of a node and stays as their anchor: anchor NODE FOLDER NODE-FOLDER...
anchor() {
    local node=$1 folder=$2 path
    shift 2
    mount --make-rshared /
    hostname "$node"
    for path in "$@"; do
        mount --bind "$folder/root/$path" "/$path"
    done
    # Mounts of pods propagate below these.
    mount --make-rshared /var/lib/kubelet
    mount --make-rshared /run/netns
    touch "$folder/anchored"
    exec -a "$folder/anchor" sleep infinity
}

define_node() {
    local i=$1 node=n$1 folder=$run/nodes/n$1 ips=10.200.0.$((10 + $1)) mode=$proxy
    [ -z "$dual" ] || ips+=,fd00:10:200::$((10 + i))
    [ "$mode" != none ] || mode=nftables
    # Answers of this machine to pods take another way than the questions (machine_routes): the first node sees half of a
    # connection, and must not drop it as invalid.
    local proxy_flags=()
    [ "$mode" != iptables ] || proxy_flags=(--conntrack-tcp-be-liberal)
    define "$node/anchor" nsenter "--net=/run/netns/kt-$node" unshare --mount --uts --propagation private \
        bash -euc "$(declare -f anchor); anchor \"\$@\"" anchor "$node" "$folder" "${node_folders[@]}"
    define "$node/containerd" "$bin/containerd" -c "$folder/containerd.toml"
    define "$node/kubelet" "$bin/kubelet" --config="$folder/kubelet.yaml" --kubeconfig="$folder/kubelet.conf" \
        --hostname-override="$node" --node-ip="$ips" --runtime-cgroups="/kt-$node"
    define "$node/proxy" "$bin/kube-proxy" --kubeconfig="$folder/proxy.conf" --hostname-override="$node" \
        --cluster-cidr="$pods" --proxy-mode="$mode" --conntrack-max-per-core=0 \
        --conntrack-tcp-timeout-established=0 --conntrack-tcp-timeout-close-wait=0 \
        "${proxy_flags[@]}"
}

# Starts all of a node that needs no API server.
make_node() {
    local i=$1 node=n$1 folder=$run/nodes/n$1 path begin images
    begin=$(milliseconds)
    for path in "${node_folders[@]}"; do
        mkdir -p "$folder/root/$path"
    done
    for path in "${reference_plugins[@]}"; do
        cp "$bin/cni/$path" "$folder/root/opt/cni/bin/"
    done
    [ -z "${KUBE_CNI_BIN:-}" ] || cp "$KUBE_CNI_BIN"/* "$folder/root/opt/cni/bin/"
    containerd_config >"$folder/containerd.toml"
    kubelet_config "$node" >"$folder/kubelet.yaml"
    node_link "$i"
    node_cgroup "$node"
    define_node "$i"
    start "$node/anchor"
    wait_for 10 test -e "$folder/anchored" || die "node $node has no namespaces; see $run/log/$node/anchor.log"
    start "$node/containerd"
    await_containerd "$node"
    say "$node: containerd answers after $(since "$begin")"
    begin=$(milliseconds)
    read -ra images <<<"${KUBE_IMAGES:-}"
    import "$node" "$image_folder"/*.tar "${images[@]}"
    say "$node: images imported in $(since "$begin")"
}

await_containerd() {
    wait_for 30 node_exec "$1" ctr version || die "containerd of $1 does not answer; see $run/log/$1/containerd.log"
}

import() {
    local node=$1 image
    shift
    for image in "$@"; do
        node_exec "$node" ctr -n k8s.io images import "$image" >>"$run/log/$node/images.log" 2>&1 ||
            die "node $node: import of $image failed; see $run/log/$node/images.log"
    done
}

# The configuration of the bed's own network for the pod CIDRs of a node.
ptp_network() {
    local cidr ranges="" routes='{"dst":"0.0.0.0/0"}'
    for cidr in "$@"; do
        ranges+=${ranges:+,}'[{"subnet":"'$cidr'"}]'
        [[ $cidr != *:* ]] || routes+=',{"dst":"::/0"}'
    done
    cat <<JSON
{"cniVersion": "1.0.0", "name": "bed", "plugins": [
  {"type": "ptp", "ipMasq": false, "ipam": {"type": "host-local", "ranges": [$ranges], "routes": [$routes]}},
  {"type": "portmap", "backend": "nftables", "capabilities": {"portMappings": true}}
]}
JSON
}

has_cidr() {
    kubectl get node "$1" -o 'jsonpath={.spec.podCIDRs[0]}' | grep -q .
}

register_node() {
    local i=$1 node=n$1 cidrs
    cidrs="\"10.244.$i.0/24\"${dual:+,\"fd00:10:244:$i::/64\"}"
    wait_for 60 kubectl get node "$node" || die "node $node does not register; see $run/log/$node/kubelet.log"
    [ -n "${KUBE_NODE_CIDRS:-}" ] || kubectl patch node "$node" --type=merge -p \
        '{"spec":{"podCIDR":"10.244.'"$i"'.0/24","podCIDRs":['"$cidrs"']}}' >/dev/null
    wait_for 60 has_cidr "$node" || die "node $node gets no pod CIDR"
}

# Routes to the pods of a node, from this machine and from the other nodes.
ptp_routes() {
    local i=$1 count=$2 cidr via j
    shift 2
    for cidr in "$@"; do
        via=10.200.0.$((10 + i))
        [[ $cidr != *:* ]] || via=fd00:10:200::$((10 + i))
        ip route replace "$cidr" via "$via"
        for ((j = 1; j <= count; j++)); do
            [ "$j" = "$i" ] || ip -n "kt-n$j" route replace "$cidr" via "$via"
        done
    done
}

# This machine is no node, yet the API server on it answers pods: it reaches them by way of the first node, as a host behind a
# router would.
machine_routes() {
    local cidr
    for cidr in ${pods//,/ }; do
        case $cidr in
            *:*) ip route replace "$cidr" via fd00:10:200::11 ;;
            *) ip route replace "$cidr" via 10.200.0.11 ;;
        esac
    done
}

parse_node_flags() {
    while [ $# -gt 0 ]; do
        case $1 in
            --network) network=${2:?} ;;
            --proxy) proxy=${2:?} ;;
            *) usage ;;
        esac
        shift 2
    done
    case $network in none | ptp) ;; *) die "no network is called '$network'" ;; esac
    case $proxy in nftables | iptables | none) ;; *) die "kube-proxy has no mode '$proxy'" ;; esac
}

nodes() {
    local count=${1:-} i begin part pid pids=() cidrs path folders
    [[ $count =~ ^[1-9][0-9]*$ ]] || usage
    parse_node_flags "${@:2}"
    needs openssl curl runc nft ip nsenter unshare
    [ "$proxy" != iptables ] || needs iptables
    images
    address=10.200.0.1
    claim
    begin=$(milliseconds)
    read -ra folders <<<"${KUBE_NODE_DIRS:-}"
    node_folders+=("${folders[@]}")
    # The command mount makes the first of these.
    for path in run/mount "${node_folders[@]}"; do
        mount_point "$path"
    done
    bridge
    [ "$network" = ptp ] || machine_routes
    # Nodes take in their images while the API server starts.
    for ((i = 1; i <= count; i++)); do
        make_node "$i" &
        pids+=($!)
    done
    part=$(milliseconds)
    start_apiserver
    start_controllers
    say "API server ready after $(since "$part")"
    for pid in "${pids[@]}"; do
        wait "$pid"
    done
    part=$(milliseconds)
    for ((i = 1; i <= count; i++)); do
        certificate "n$i" "/O=system:nodes/CN=system:node:n$i" extendedKeyUsage=clientAuth
        kubeconfig "$run/nodes/n$i/kubelet.conf" "n$i"
        kubeconfig "$run/nodes/n$i/proxy.conf" proxy
        start "n$i/kubelet"
        [ "$proxy" = none ] || start "n$i/proxy"
    done
    kubectl create clusterrolebinding bed-proxy --clusterrole=system:node-proxier --user=system:kube-proxy >/dev/null
    for ((i = 1; i <= count; i++)); do
        register_node "$i"
        [ "$network" = ptp ] || continue
        mapfile -t cidrs < <(kubectl get node "n$i" -o 'jsonpath={range .spec.podCIDRs[*]}{@}{"\n"}{end}')
        ptp_network "${cidrs[@]}" >"$run/nodes/n$i/root/etc/cni/net.d/10-ptp.conflist"
        ptp_routes "$i" "$count" "${cidrs[@]}"
    done
    [ -n "${KUBE_NO_DNS:-}" ] || kubectl apply -f "$here/coredns.yaml" >/dev/null
    say "nodes registered after $(since "$part")"
    if [ "$network" = ptp ]; then
        part=$(milliseconds)
        kubectl wait --for=condition=Ready node --all --timeout=90s >/dev/null
        say "nodes Ready after $(since "$part")"
    fi
    touch "$run/complete"
    say "$count nodes up after $(since "$begin"); KUBECONFIG=$run/kubeconfig"
}
