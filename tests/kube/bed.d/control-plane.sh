# shellcheck shell=bash
# Certificates, kubeconfigs, etcd, the API server, the controller-manager and the scheduler.

certificate() {
    local path=$run/pki/$1
    openssl ecparam -genkey -name prime256v1 -noout -out "$path.key"
    openssl req -new -key "$path.key" -subj "$2" | openssl x509 -req -CA "$run/pki/ca.crt" -CAkey "$run/pki/ca.key" \
        -set_serial "0x$(openssl rand -hex 16)" -days 3650 -extfile <(echo "$3") -out "$path.crt" 2>/dev/null
}

certificates() {
    local names client
    mkdir -m 700 "$run/pki"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=roadbed-bed -days 3650 \
        -keyout "$run/pki/ca.key" -out "$run/pki/ca.crt" 2>/dev/null
    openssl genrsa -out "$run/pki/sa.key" 2048 2>/dev/null
    names=$(printf ',DNS:kubernetes%s' "" .default .default.svc .default.svc.cluster.local)
    names+=$(printf ',IP:%s' 127.0.0.1 10.96.0.1 10.200.0.1 fd00:10:96::1 fd00:10:200::1)
    certificate apiserver /CN=kube-apiserver "subjectAltName=DNS:localhost$names
extendedKeyUsage=serverAuth,clientAuth"
    for client in admin:/O=system:masters/CN=admin controllers:/CN=system:kube-controller-manager \
        scheduler:/CN=system:kube-scheduler proxy:/CN=system:kube-proxy front-proxy:/CN=front-proxy; do
        certificate "${client%%:*}" "${client#*:}" extendedKeyUsage=clientAuth
    done
}

# kubeconfig FILE CERTIFICATE
kubeconfig() {
    local pki=$run/pki
    (
        umask 077
        cat >"$1" <<YAML
apiVersion: v1
kind: Config
current-context: bed
contexts: [{name: bed, context: {cluster: bed, user: bed}}]
clusters: [{name: bed, cluster: {server: "https://$address:$port", certificate-authority-data: $(base64 -w 0 "$pki/ca.crt")}}]
users: [{name: bed, user: {client-certificate-data: $(base64 -w 0 "$pki/$2.crt"), client-key-data: $(base64 -w 0 "$pki/$2.key")}}]
YAML
    )
}

readyz() {
    local pki=$run/pki
    curl -s --max-time 2 --cacert "$pki/ca.crt" --cert "$pki/admin.crt" --key "$pki/admin.key" \
        "https://$address:$port/readyz" | grep -qx ok
}

ready_or_dead() {
    readyz || ! pid_of apiserver
}

await_apiserver() {
    load_settings
    wait_for 90 ready_or_dead || :
    if readyz; then return; fi
    tail -n 5 "$run/log/apiserver.log" "$run/log/etcd.log" >&2
    die "the API server is not ready; logs are in $run/log"
}

# Later commands of this bed use these settings, whatever their environment says.
save_settings() {
    printf '%s=%q\n' address "$address" port "$port" etcd_port "$etcd_port" >"$run/settings"
}

load_settings() {
    [ -e "$run/settings" ] || die "no bed is up in $run"
    # shellcheck source=/dev/null
    source "$run/settings"
}

start_apiserver() {
    local pki=$run/pki advertise=$address url=http://127.0.0.1:$etcd_port peer=http://127.0.0.1:$etcd_peer_port extra
    # A Service may not point to a loopback address. Nobody has this one.
    [ "$address" != 127.0.0.1 ] || advertise=203.0.113.1
    certificates
    save_settings
    define etcd "$bin/etcd" --data-dir "$run/etcd" --listen-client-urls "$url" --advertise-client-urls "$url" \
        --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" --initial-cluster "default=$peer" \
        --unsafe-no-fsync --log-level warn
    read -ra extra <<<"${KUBE_APISERVER_ARGS:-}"
    define apiserver "$bin/kube-apiserver" --etcd-servers="$url" --bind-address="$address" --advertise-address="$advertise" \
        --secure-port="$port" --service-cluster-ip-range="$services" --allow-privileged=true \
        --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" --client-ca-file="$pki/ca.crt" \
        --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
        --service-account-issuer=https://kubernetes.default.svc.cluster.local \
        --service-account-key-file="$pki/sa.key" --service-account-signing-key-file="$pki/sa.key" \
        --kubelet-client-certificate="$pki/admin.crt" --kubelet-client-key="$pki/admin.key" \
        --kubelet-preferred-address-types=InternalIP --enable-aggregator-routing=true \
        --requestheader-client-ca-file="$pki/ca.crt" --requestheader-allowed-names=front-proxy \
        --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group \
        --requestheader-extra-headers-prefix=X-Remote-Extra- \
        --proxy-client-cert-file="$pki/front-proxy.crt" --proxy-client-key-file="$pki/front-proxy.key" \
        --audit-policy-file="$here/audit.yaml" --audit-log-path="$run/log/audit.log" "${extra[@]}"
    start etcd
    start apiserver
    await_apiserver
    kubeconfig "$run/kubeconfig" admin
    export KUBECONFIG=$run/kubeconfig
}

start_controllers() {
    local pki=$run/pki cidrs=()
    [ -z "${KUBE_NODE_CIDRS:-}" ] ||
        cidrs=(--allocate-node-cidrs --cluster-cidr="$pods" --service-cluster-ip-range="$services")
    kubeconfig "$pki/controllers.conf" controllers
    define controllers "$bin/kube-controller-manager" --kubeconfig="$pki/controllers.conf" --leader-elect=false \
        --bind-address=127.0.0.1 --secure-port="${KUBE_CONTROLLERS_PORT:-20257}" --root-ca-file="$pki/ca.crt" \
        --service-account-private-key-file="$pki/sa.key" --use-service-account-credentials \
        --cluster-signing-cert-file="$pki/ca.crt" --cluster-signing-key-file="$pki/ca.key" "${cidrs[@]}"
    kubeconfig "$pki/scheduler.conf" scheduler
    define scheduler "$bin/kube-scheduler" --kubeconfig="$pki/scheduler.conf" --leader-elect=false \
        --bind-address=127.0.0.1 --secure-port="${KUBE_SCHEDULER_PORT:-20259}"
    start controllers
    start scheduler
}

up() {
    local begin
    needs openssl curl
    build etcd kubernetes
    claim
    begin=$(milliseconds)
    start_apiserver
    touch "$run/complete"
    say "API server ready on $address:$port, $(since "$begin"); KUBECONFIG=$run/kubeconfig"
}
