# shellcheck shell=bash disable=SC2154
# Sets up what ./bytemini needs. Read by it, never run: root, venv, state, mode, requirements, die, wanted, is_done,
# is_set_up and has come from there.

log=$state/setup.log
ticker=

# ---- progress --------------------------------------------------------------------------------------------------------

# step TITLE COMMAND...: one line with the time it took; what the command prints goes to the log.
step() {
    local title=$1 begin=$SECONDS rc=0 size reason
    shift
    printf '\n==== %s\n' "$title" >>"$log"
    size=$(wc -c <"$log")
    printf '  %-48s' "$title" >&2
    if [ -t 2 ]; then
        while sleep 1; do printf '\r  %-48s %3d s' "$title" $((SECONDS - begin)) >&2; done &
        ticker=$!
    fi
    ("$@") >>"$log" 2>&1 </dev/null || rc=$?
    stop_ticker
    [ ! -t 2 ] || printf '\r  %-48s' "$title" >&2
    if [ $rc != 0 ]; then
        printf ' failed\n' >&2
        reason=$(tail -c "+$((size + 1))" "$log" | grep -m 1 -E '([Ee]rror|ERROR|[Ff]atal|Invalid[A-Za-z]*|E)\b.*: ' ||
            tail -n 1 "$log")
        die "${reason:0:300} (the whole story: $log)"
    fi
    printf ' %3d s\n' $((SECONDS - begin)) >&2
}
stop_ticker() {
    [ -z "$ticker" ] || { kill "$ticker" && wait "$ticker"; } 2>/dev/null || true
    ticker=
}
interrupted() {
    stop_ticker
    printf '\nbytemini: set-up interrupted; the next use goes on from here\n' >&2
    exit 130
}

# finish PART TITLE COMMAND...: a step that completes a part; the stamp says what was there when the step began.
finish() {
    local part=$1
    shift
    rm -f "$state/$part"
    wanted "$part" >"$state/$part.new" || true
    step "$@"
    [ "$part" != place ] || wanted place >"$state/place.new" # names the Python that the step made
    mv "$state/$part.new" "$state/$part"
}

# ---- the parts (run with errors passed on by hand: bash ignores `set -e` below an `||`) ------------------------------

choose_python() {
    local module=sys
    [ "$mode" = wheels ] || module=rclpy # the Python that the installed ROS was built for
    for python in python3 python3.12 python3.11 /usr/bin/python3; do
        if has "$python" "$module"; then return; fi
    done
    die "Python 3.11 or 3.12 is needed, found '$(python3 -V 2>/dev/null || true)': install python3.12 or python3.11"
}

debian_packages() {
    local missing=() sudo=() name version header advice
    read -r version header < <("$python" -c \
        'import sys, sysconfig; print("python%d.%d" % sys.version_info[:2], sysconfig.get_path("include"))')
    for name in cmake g++ make; do command -v "$name" >/dev/null || missing+=("$name"); done
    "$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=("$version-venv")
    [ -f "$header/Python.h" ] || missing+=("$version-dev")
    if command -v dpkg-query >/dev/null; then
        for name in libegl1 libgl1-mesa-dri libgles2 libusb-1.0-0; do # rendering without a display; RealSense cameras
            dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null | grep -qx installed || missing+=("$name")
        done
    fi
    [ ${#missing[@]} != 0 ] || return 0
    advice="packages are missing; install them with 'sudo apt-get install -y ${missing[*]}' and run this again"
    command -v apt-get >/dev/null || die "$advice"
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || die "$advice"
        sudo=(sudo)
        [ -t 0 ] || sudo+=(-n) # nobody to ask for a password
        "${sudo[@]}" -v 2>/dev/null || die "$advice"
    fi
    # shellcheck disable=SC2016 # the inner shell expands it
    step "Debian packages: ${missing[*]}" "${sudo[@]}" sh -c 'export DEBIAN_FRONTEND=noninteractive
        apt-get -o DPkg::Lock::Timeout=120 update &&
        apt-get -o DPkg::Lock::Timeout=120 install -y --no-install-recommends "$@"' sh "${missing[@]}"
}

make_venv() {
    local options=()
    [ "$mode" = wheels ] || options=(--system-site-packages)
    rm -rf "$venv" "$root/build" "$root/install"
    "$python" -m venv "${options[@]}" "$venv"
}

install_requirements() {
    local info
    for info in "$venv"/lib/python3*/site-packages/*.dist-info; do # pip writes RECORD last: without it, half installed
        [ -e "$info/RECORD" ] || rm -rf "$info"
    done
    PIP_USER=0 "$venv/bin/python" -m pip --disable-pip-version-check install --no-input --no-compile \
        --progress-bar off -r "$root/requirements/$1" || return
    [ "$1" != ros.txt ] || "$venv/bin/python" - <<'PYTHON'
# The wheels' CMake files name the Python and numpy headers of the machine they were built on: name this one's.
import pathlib, re, sys, sysconfig
own = {r"/numpy/_core/include": sysconfig.get_path("platlib") + "/numpy/_core/include",
       r"/include/python3\.\d+": sysconfig.get_path("include")}
for path in pathlib.Path(sys.prefix, "share").rglob("*.cmake"):
    old = new = path.read_text()
    for end, folder in own.items():
        new = re.sub(r'/opt/python/[^;" )]*' + end, lambda _: folder, new)
    if new != old:
        path.write_text(new)
PYTHON
}

provides() { # provides PACKAGE: the ROS below this workspace has it
    local prefix prefixes
    IFS=: read -ra prefixes <<<"${AMENT_PREFIX_PATH:-}"
    for prefix in "${prefixes[@]}"; do
        if [ "$prefix" != "$root/install" ] && [ -e "$prefix/share/$1/package.xml" ]; then return; fi
    done
    return 1
}

manifests() { grep -E '^[^ ]*/package\.xml$' "$1" || true; }

# Build the packages whose lines in the list of sources differ from those of the last complete build.
build() {
    local folder folders=(src) names=()
    cd "$root" && use_venv || return
    # What a build that died left behind is not to be trusted, and only a new prefix is free of a package that has gone.
    if [ ! -e install/setup.bash ] || [ -e "$state/building" ] || [ ! -e "$state/built" ] ||
        LC_ALL=C comm -23 <(manifests "$state/built") <(manifests "$state/sources.new") | grep -q .; then
        rm -rf build install
        : >"$state/built"
    fi
    touch "$state/building"
    [ ! -d launch ] || folders+=(launch)
    while IFS= read -r folder; do
        [ -f "$folder/package.xml" ] || continue
        if [ "${folder%/*}" = overlay ]; then
            if provides "${folder#overlay/}"; then continue; fi
            folders+=("$folder")
        fi
        names+=("$(sed -n 's:.*<name>\(.*\)</name>.*:\1:p' "$folder/package.xml" | head -n 1)")
    done < <(LC_ALL=C comm -3 "$state/built" "$state/sources.new" | sed -E 's/^\t?([0-9a-f]{64}  )?//' |
        sed -nE 's,^((src|overlay)/[^/]+|launch)/.*,\1,p' | sort -u)
    if [ ${#names[@]} != 0 ]; then
        colcon --log-base "$state/colcon" build --symlink-install --merge-install --base-paths "${folders[@]}" \
            --packages-select "${names[@]}" --event-handlers console_cohesion+ --cmake-args \
            -DCMAKE_BUILD_TYPE=Release -DBUILD_TESTING=OFF "-DPython3_EXECUTABLE=$venv/bin/python" || {
            rm "$state/building" # it ended in good order: what is complete can stay
            return 1
        }
        # The first line of a script cannot quote: where the path has spaces, find Python through PATH.
        find install/lib -mindepth 2 -maxdepth 2 -type f -exec \
            sed -i '1s:^#!".*python.*:#!/usr/bin/env python3:' {} + || return
    fi
    cp "$state/sources.new" "$state/built" && rm "$state/building"
}

use_venv() {
    local libraries=("$venv"/lib/python3*/site-packages/ros_*.libs)
    export VIRTUAL_ENV=$venv PATH=$venv/bin:$PATH
    [ "$mode" = wheels ] || return 0
    export AMENT_PREFIX_PATH=$venv CMAKE_PREFIX_PATH=$venv
    # With these two set, the wheels do not start Python a second time to find their libraries.
    export _ROS_WHEELS_BOOTSTRAP_COMPLETE=1 LD_LIBRARY_PATH
    LD_LIBRARY_PATH=$venv/lib:$(IFS=: && echo "${libraries[*]}")${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
}

# Sourcing install/setup.bash takes a second: do it once, in an empty environment, and keep what it exports.
write_env() {
    local kept
    PATH=/usr/bin:/bin LD_LIBRARY_PATH=
    use_venv
    kept=("PATH=$PATH" "VIRTUAL_ENV=$venv" "COLCON_PYTHON_EXECUTABLE=$(readlink -f "$venv/bin/python")")
    [ "$mode" = ros ] || kept+=("AMENT_PREFIX_PATH=$venv" "LD_LIBRARY_PATH=$LD_LIBRARY_PATH"
        _ROS_WHEELS_BOOTSTRAP_COMPLETE=1)
    # shellcheck disable=SC2016 # the inner shell expands it
    env -i "${kept[@]}" /bin/bash -c '. "$1/install/setup.bash" || exit
        for name in $(compgen -e); do
            case $name in
                PWD | OLDPWD | SHLVL | _ | COLCON_PYTHON_EXECUTABLE) ;;
                PATH) printf "export PATH=%q\$PATH\n" "${PATH%/usr/bin:/bin}" ;;
                LD_LIBRARY_PATH) printf "export %s=%q\${%s:+:\$%s}\n" "$name" "${!name}" "$name" "$name" ;;
                *) printf "export %s=%q\n" "$name" "${!name}" ;;
            esac
        done' bash "$root" >"$state/env.sh.new" && mv "$state/env.sh.new" "$state/env.sh"
}

# The controller's programmes, so that no node's first start compiles them; without a compiler it runs without.
compile_controller() {
    # shellcheck source=/dev/null
    (. "$state/env.sh" && "$venv/bin/python" -m wbc_controller.prepare) || true
}

# ---- all of it -------------------------------------------------------------------------------------------------------

set_up() {
    local part found='' begin=$SECONDS
    case $root in *:*) die "the path $root has a colon in it, which no search path can hold: move the folder" ;; esac
    [ -d "$state" ] || found=$venv
    { mkdir -p "$state" && exec 9>"$state/lock"; } 2>/dev/null || die "cannot write to $state: set up as its owner"
    if ! flock -n 9; then
        printf 'bytemini: another set-up is under way here; waiting for it\n' >&2
        flock 9
        if is_set_up; then
            exec 9>&-
            return
        fi
    fi
    trap interrupted INT TERM HUP
    trap stop_ticker EXIT
    : >"$log"
    rm -f "$state/env" # made anew at the end, whatever comes between
    printf 'Setting up %s\n' "$root" >&2
    choose_python
    debian_packages
    # A .venv from before the first set-up is somebody's own: keep it if it is one of this folder.
    if [ -n "$found" ] && "$found/bin/python" -c 'import pip, sys; sys.exit(sys.prefix != sys.argv[1])' "$found"; then
        wanted place >"$state/place"
    fi 2>/dev/null
    if [ ! -x "$venv/bin/python" ] || ! is_done place; then
        rm -f "$state"/*.txt
        finish place "Python environment (.venv)" make_venv
    fi
    for part in "${requirements[@]}"; do
        if is_done "$part"; then continue; fi
        [ "$part" != ros.txt ] || rm -rf "$root/build" "$root/install" # built against other headers
        finish "$part" "Python packages (requirements/$part)" install_requirements "$part"
    done
    if [ ! -e "$root/install/setup.bash" ] || ! is_done sources; then
        finish sources "Workspace (colcon build)" build
    fi
    finish env "Environment" write_env
    step "Controller (compiled for this processor)" compile_controller
    printf 'Set up in %d s\n' $((SECONDS - begin)) >&2
    trap - INT TERM HUP EXIT
    exec 9>&-
}
