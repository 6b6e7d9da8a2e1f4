# shellcheck shell=bash
# Makes the images of the test pods. Names and tags are those of Kubernetes' test/utils/image/manifest.go, with "localhost" for
# the registry. An image is there if $image_folder/NAME.tar.from is the checksum of what it was made from.

# A root filesystem of Debian packages and all that they depend on. Nothing is installed on this machine.
rootfs() {
    local root=$1 debs=$1.debs folder deb apt
    shift
    mkdir -p "$debs" "$root"/{usr/{bin,sbin,lib,lib64},etc,tmp,var/tmp,proc,sys,dev,root,run}
    chmod 1777 "$root/tmp" "$root/var/tmp"
    for folder in bin sbin lib lib64; do
        ln -sfn "usr/$folder" "$root/$folder"
    done
    # The lists of packages may be missing or old.
    apt-get -qq update >/dev/null 2>&1 || :
    : >"$debs/status"
    apt=(apt-get -qq -o "Dir::State::status=$debs/status" -o APT::Sandbox::User=root)
    (
        cd "$debs"
        "${apt[@]}" install -s --no-install-recommends "$@" | awk '/^Inst/ { print $2 }' | grep -vxE 'debconf|base-files' |
            xargs "${apt[@]}" download
        for deb in *.deb; do
            dpkg --fsys-tarfile "$deb" | tar -x --keep-directory-symlink -C "$root"
        done
    )
    rm -rf "$debs" "$root"/usr/share/{doc,man,locale,info,lintian,bash-completion} "$root"/usr/lib/*-linux-gnu*/gconv
}

# Does what the maintainer scripts of the packages would have done: accounts, nc, and busybox for every tool that is missing.
settle() {
    local root=$1 tool
    printf '%s\n' root:x:0:0:root:/root:/bin/sh nobody:x:65534:65534::/:/bin/false \
        user-defined-in-image:x:1000:1000::/:/bin/sh >"$root/etc/passwd"
    printf '%s\n' root:x:0: nogroup:x:65534: group-defined-in-image:x:50000:user-defined-in-image >"$root/etc/group"
    echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
    [ ! -e "$root/usr/bin/nc.openbsd" ] || ln -sf nc.openbsd "$root/usr/bin/nc"
    for tool in $(chroot "$root" /bin/busybox --list); do
        [ -e "$root/usr/bin/$tool" ] || [ -e "$root/usr/sbin/$tool" ] || ln -s busybox "$root/usr/bin/$tool"
    done
}

oci_image() {
    "$here/../../scripts/oci-image" "$image_folder/$1" --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "${@:2}"
}

image_pause() {
    cat >"$work/pause.c" <<'C'
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void leave(int signal) { (void)signal; _exit(0); }

static void reap(int signal) {
    (void)signal;
    while (waitpid(-1, 0, WNOHANG) > 0) {
    }
}

int main(void) {
    signal(SIGINT, leave);
    signal(SIGTERM, leave);
    signal(SIGCHLD, reap);
    for (;;) pause();
}
C
    gcc -Os -static -s -o "$work/pause" "$work/pause.c"
    oci_image pause.tar --name localhost/pause:3.10.2 --entrypoint /pause "$work/pause:/pause:755"
}

image_coredns() {
    oci_image coredns.tar --name localhost/coredns:1 --entrypoint /coredns "$bin/coredns:/coredns:755"
}

# The specs want of nginx only that it serves something.
image_busybox() {
    rootfs "$work/busybox" busybox
    settle "$work/busybox"
    oci_image busybox.tar --name localhost/busybox:1.37.0-2 --name localhost/busybox:1 --cmd sh --rootfs "$work/busybox"
    mkdir "$work/busybox/www"
    echo ok >"$work/busybox/www/index.html"
    oci_image nginx.tar --name localhost/nginx:1.27.0-2 --name localhost/nginx:1.28.0-2 \
        --cmd httpd --cmd=-f --cmd=-p --cmd 80 --cmd=-h --cmd /www --rootfs "$work/busybox"
}

image_agnhost() {
    # Specs call these tools in it. busybox' own wget crashes in some of them.
    rootfs "$work/agnhost" bash busybox curl wget netcat-openbsd bind9-dnsutils iproute2 iperf socat coreutils libc-bin
    settle "$work/agnhost"
    ln -s agnhost "$work/agnhost/agnhost-2"
    mkdir "$work/agnhost/uploads"
    # Its porter serves TLS with these; clients do not check who signed them.
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost -days 3650 \
        -keyout "$work/localhost.key" -out "$work/localhost.crt" 2>/dev/null
    oci_image agnhost.tar --name localhost/agnhost:2.66.1 --name localhost/agnhost:2.55 --name localhost/glibc-dns-testing:2.1.1 \
        --entrypoint /agnhost --cmd pause --rootfs "$work/agnhost" "$bin/agnhost:/agnhost:755" \
        "$work/localhost.crt:/localhost.crt:644" "$work/localhost.key:/localhost.key:644"
}

images() {
    local image from work start
    build
    needs gcc python3 openssl dpkg apt-get
    mkdir -p "$image_folder"
    for image in pause coredns busybox agnhost; do
        # Not every image has a program of the cache in it.
        from=$({ cat "$here/bed.d/images.sh" "$here/../../scripts/oci-image"; cat "$bin/$image.from" 2>/dev/null || :; } | sha256sum)
        [ -s "$image_folder/$image.tar" ] && [ "$(cat "$image_folder/$image.tar.from" 2>/dev/null)" = "$from" ] && continue
        start=$(milliseconds)
        work=$(mktemp -d -p "$cache")
        "image_$image"
        rm -rf "$work"
        echo "$from" >"$image_folder/$image.tar.from"
        say "made image $image in $(since "$start"), $(($(stat -c %s "$image_folder/$image.tar") >> 20)) MB"
    done
}
