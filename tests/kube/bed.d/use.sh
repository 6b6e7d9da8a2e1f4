# shellcheck shell=bash
# Uses a bed that is up.

print_env() {
    load_settings
    printf 'export %s=%q\n' KUBECONFIG "$run/kubeconfig" PATH "$PATH" RUN "$run" LOGS "$run/log" AUDIT_LOG "$run/log/audit.log"
}

node_exec() {
    local inside lines
    lines=$(enter "${1:?NODE}") || exit 1
    mapfile -t inside <<<"$lines"
    "${inside[@]}" "${@:2}"
}

load() {
    local file node pid pids=() nodes=("${@:2}")
    file=$(realpath -e "${1:?FILE}")
    [ "${#nodes[@]}" -gt 0 ] || mapfile -t nodes < <(find "$run/nodes" -mindepth 1 -maxdepth 1 -printf '%f\n' 2>/dev/null | sort)
    [ "${#nodes[@]}" -gt 0 ] || die "no node is up"
    for node in "${nodes[@]}"; do
        import "$node" "$file" &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do
        wait "$pid"
    done
}

node_proxy() {
    local node
    [ $# -gt 1 ] || usage
    for node in "${@:2}"; do
        case $1 in
            start) start "$node/proxy" ;;
            stop) end "$node/proxy" ;;
            clean) node_exec "$node" kube-proxy --cleanup >>"$run/log/$node/proxy.log" 2>&1 ;;
            *) usage ;;
        esac
    done
}

# etcd's own HTTP gateway answers with the current revision.
etcd_compact() {
    local url revision
    load_settings
    url=http://127.0.0.1:$etcd_port/v3/kv
    # The key "a", which nobody has.
    revision=$(curl -sSf "$url/range" -d '{"key": "YQ=="}' | sed -n 's/.*"revision":"\([0-9]*\)".*/\1/p')
    curl -sSf "$url/compaction" -d '{"revision": '"$revision"', "physical": true}' >/dev/null
    say "etcd has forgotten all revisions before $revision"
}

e2e() {
    local focus=${1:?REGEX} registry skip=() report=()
    load_settings
    build e2e
    for registry in promoterE2e gc buildImage; do
        echo "${registry}Registry: localhost"
    done >"$run/registries.yaml"
    [ -z "${KUBE_E2E_SKIP:-}" ] || skip=(--skip="$KUBE_E2E_SKIP")
    [ -z "${KUBE_E2E_REPORT:-}" ] || report=(--output-dir="$(dirname "$KUBE_E2E_REPORT")" --json-report="$(basename "$KUBE_E2E_REPORT")")
    KUBE_TEST_REPO_LIST=$run/registries.yaml exec "$bin/ginkgo" --procs="${KUBE_E2E_PROCS:-1}" --focus="$focus" "${skip[@]}" "${report[@]}" \
        --no-color "$bin/e2e.test" -- --kubeconfig="$run/kubeconfig" --provider=skeleton --kubectl-path="$bin/kubectl" \
        --node-os-distro=debian "${@:2}"
}
