# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_coracle_global_optspecs
    string join \n root= runroot= v/version h/help
end

function __fish_coracle_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_coracle_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_coracle_using_subcommand
    set -l cmd (__fish_coracle_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c coracle -n "__fish_coracle_needs_command" -l root -d 'Keep images, containers and volumes in DIR' -r
complete -c coracle -n "__fish_coracle_needs_command" -l runroot -d 'Keep the state of running containers in DIR' -r
complete -c coracle -n "__fish_coracle_needs_command" -s v -l version -d 'Print the version'
complete -c coracle -n "__fish_coracle_needs_command" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "run" -d 'Create a container and run a command in it'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "create" -d 'Create a container without starting it'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "start" -d 'Start stopped containers'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "stop" -d 'Stop running containers'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "restart" -d 'Stop containers and start them again'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "kill" -d 'Send a signal to running containers'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "pause" -d 'Freeze all processes of running containers'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "unpause" -d 'Let paused containers go on'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "rm" -d 'Remove containers'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "remove" -d 'Remove containers'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "rename" -d 'Give a container another name'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "exec" -d 'Run a command in a running container'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "attach" -d 'Connect this terminal to a running container'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "ps" -d 'List containers'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "cp" -d 'Copy files between containers and the host'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "diff" -d 'Show what a container has changed of its image'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "export" -d 'Write all files of a container as a tar archive'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "commit" -d 'Make an image of a container and what it has changed'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "logs" -d 'Show the output of containers'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "wait" -d 'Wait until containers stop and print their exit codes'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "stats" -d 'Show what containers use, again and again'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "update" -d 'Change the limits of containers'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "port" -d 'Show where a container\'s ports are published'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "top" -d 'Show the processes of a container'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "inspect" -d 'Show all there is to know about containers, images or volumes'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "pull" -d 'Get images from a registry'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "push" -d 'Send an image to a registry'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "images" -d 'List images'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "rmi" -d 'Remove images'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "tag" -d 'Give an image further names'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "untag" -d 'Take names from an image'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "load" -d 'Get images from an archive that docker, podman or coracle saved'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "save" -d 'Save images to an archive or a folder, for docker, podman, skopeo or coracle to load'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "import" -d 'Make an image of a tar archive of a file system'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "build" -d 'Build an image from a Dockerfile'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "builder" -d 'Look after the cache of builds'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "buildx" -d 'Look after the cache of builds'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "history" -d 'Show how an image was made'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "search" -d 'Look for images in registries'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "login" -d 'Log in to a registry'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "logout" -d 'Log out of a registry'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "container" -d 'Manage containers'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "image" -d 'Manage images'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "manifest" -d 'Make and push lists of images for several platforms'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "network" -d 'Manage networks'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "volume" -d 'Manage volumes'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "store" -d 'Look after what is kept on disk'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "system" -d 'Look after everything together'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "unshare" -d 'Run a command in the user\'s own namespace, where container files have their owners'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "info" -d 'Show what this machine is and where things are kept'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "version" -d 'Show the version'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "doctor" -d 'Check whether containers can run here, and say what to do'
complete -c coracle -n "__fish_coracle_needs_command" -f -a "completion" -d 'Print the completion script of a shell'
complete -c coracle -n "__fish_coracle_using_subcommand run" -s a -l attach -d 'Connect only stdin, stdout or stderr' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l preserve-fds -d 'Pass N descriptors from 3 on to the container' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l preserve-fd -d 'Pass these open descriptors to the container' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l name -d 'Name the container' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l entrypoint -d 'Replace the image\'s entrypoint: a JSON array or one word' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -s w -l workdir -d 'Working directory in the container' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -s u -l user -d 'User in the container' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -s h -l hostname -d 'Host name of the container' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -s l -l label -d 'Set a label' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l label-file -d 'Read labels from FILE, one per line' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l stop-signal -d 'Signal that stops the container' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l stop-timeout -d 'Seconds that a stop waits before it kills, -1 for ever' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l detach-keys -d 'Keys that detach from the container (default ctrl-p,ctrl-q)' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l cidfile -d 'Write the container\'s id to FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l log-driver -d 'Where output is kept: k8s-file (default) or none' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l log-opt -d 'Option of the log: max-size=SIZE, max-file=COUNT' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -s e -l env -d 'Set a variable; without a value, pass it on' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l env-file -d 'Read variables from FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l unsetenv -d 'Remove a variable of the image' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -s v -l volume -d 'Mount [SOURCE:]DIR[:OPTIONS], the source a path or a volume' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l mount -d 'Mount type=bind|volume|tmpfs|image|ramfs|devpts|glob,source=...,target=DIR[,readonly...]' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l tmpfs -d 'Mount a tmpfs at DIR[:size=SIZE,mode=MODE...]' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l shm-size -d 'Size of /dev/shm (default 64m)' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l cap-add -d 'Add a capability, or ALL' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l cap-drop -d 'Drop a capability, or ALL' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l security-opt -d 'no-new-privileges, seccomp=unconfined|FILE, mask=PATH, unmask=PATH|ALL, label=disable' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l network -d 'Network: bridge (default), none, host, container:NAME, or NAME[:ip=ADDRESS,mac=MAC,alias=NAME] (several times: on each)' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l ip -d 'Have this address on the network' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l ip6 -d 'Have this IPv6 address on the network' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l mac-address -d 'Have this hardware address on the network' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l network-alias -d 'Be found by this name on the network, too' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -s p -l publish -d 'Publish [[IP:][HOST-PORT]:]PORT[/tcp|/udp] on the host' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l add-host -d 'Add a line to /etc/hosts' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l dns -d 'Use this name server; \'none\' leaves /etc/resolv.conf alone' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l dns-search -d 'Search this domain; \'.\' for none' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l dns-option -d 'Set an option of resolv.conf' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -s m -l memory -d 'Limit memory, as in 512m or 2g' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l memory-swap -d 'Limit memory and swap together; -1 is no limit (default twice --memory)' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l memory-reservation -d 'Keep this much memory for it when memory is short' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l cpus -d 'Limit processor time, as in 1.5' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -s c -l cpu-shares -d 'Weight of its processor time beside others (default 1024)' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l cpu-period -d 'Span of time over which --cpu-quota counts (default 100000)' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l cpu-quota -d 'Processor time in each span, -1 for no limit' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l cpuset-cpus -d 'Processors that it may use, as in 0-2,5' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l cpuset-mems -d 'Memory nodes that it may use' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l pids-limit -d 'Limit processes and threads, -1 for no limit (default 2048)' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l blkio-weight -d 'Weight of its block I/O beside others, 10 to 1000' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l blkio-weight-device -d 'The same for one device' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l device-read-bps -d 'Limit reading, bytes per second, as in /dev/sda:1m' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l device-write-bps -d 'Limit writing, bytes per second' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l device-read-iops -d 'Limit reading, operations per second' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l device-write-iops -d 'Limit writing, operations per second' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l memory-swappiness -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l cpu-rt-period -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l cpu-rt-runtime -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l kernel-memory -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l cgroup-conf -d 'Set a file of its cgroup, as in memory.high=1g' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l cgroup-parent -d 'Slice or cgroup to put its cgroup below' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l cgroups -d 'Cgroup of its own: enabled (default), disabled or split' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l cgroupns -d 'Cgroup namespace: private (default) or host' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l userns -d 'User namespace: host (default), keep-id[:uid=UID,gid=GID], auto[:size=N], nomap or container:NAME' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l uidmap -d 'Map COUNT user ids from ID on; FROM 0 is you, 1 your first subordinate id' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l gidmap -d 'Map COUNT group ids from ID on' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l pid -d 'Process namespace: private (default), host or container:NAME' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l ipc -d 'IPC namespace: shareable (default), private, none, host or container:NAME' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l uts -d 'Host name\'s namespace: private (default), host or container:NAME' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l sysctl -d 'Set a kernel setting of the container\'s own namespaces' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l env-merge -d 'Set a variable; ${OTHER} in VALUE is a variable of the image' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l group-add -d 'Add a group, or keep-groups for your own ones' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l ulimit -d 'Set a resource limit; \'host\' keeps those of this shell' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l umask -d 'Umask of the container (default 0022)' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l oom-score-adj -d 'How readily the kernel kills it for memory, -1000 to 1000' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l personality -d 'Execution domain: LINUX or LINUX32' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l timeout -d 'Kill the container if it runs longer' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l systemd -d 'Prepare for systemd: true (default: if the command is an init), false or always' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l volumes-from -d 'Mount what another container mounts; options ro, rw, z' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l image-volume -d 'What the image\'s volumes are: anonymous (default), tmpfs or ignore' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l device -d 'Add a device of the host, or a folder of them' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l tz -d 'Time zone: \'local\' for this machine\'s, or a name such as Europe/Paris' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l hostuser -d 'Add a user of the host to /etc/passwd' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l passwd-entry -d 'What is added to /etc/passwd; $USERNAME, $UID, $GID, $NAME, $HOME' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l group-entry -d 'What is added to /etc/group; $GROUPNAME, $GID, $USERLIST' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l pidfile -d 'Write the pid of the container\'s first process to FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l domainname -d 'NIS domain name of the container' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l annotation -d 'Record an annotation' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l expose -d 'Record that the container listens on a port or a range' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l init-path -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l conmon-pidfile -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l pull -d 'When to ask the registry: missing (default), always, newer or never' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l platform -d 'Choose this platform of an image that has several' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l authfile -d 'Read the registry\'s credentials from FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l os -d 'Choose the image for this operating system' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l arch -d 'Choose the image for this architecture' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -l variant -d 'Choose the image for this variant of the architecture' -r
complete -c coracle -n "__fish_coracle_using_subcommand run" -s d -l detach -d 'Run in the background and print the container\'s id'
complete -c coracle -n "__fish_coracle_using_subcommand run" -l rmi -d 'Remove the image too when the container exits; implies --rm'
complete -c coracle -n "__fish_coracle_using_subcommand run" -l sig-proxy -d 'Pass signals on to the container (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand run" -s i -l interactive -d 'Keep standard input open'
complete -c coracle -n "__fish_coracle_using_subcommand run" -s t -l tty -d 'Allocate a terminal'
complete -c coracle -n "__fish_coracle_using_subcommand run" -l rm -d 'Remove the container when it exits'
complete -c coracle -n "__fish_coracle_using_subcommand run" -l init -d 'Run a small init as process 1 that forwards signals and reaps processes'
complete -c coracle -n "__fish_coracle_using_subcommand run" -l read-only -d 'Mount the container\'s root read-only'
complete -c coracle -n "__fish_coracle_using_subcommand run" -l read-only-tmpfs -d 'With --read-only: /run, /tmp and /var/tmp are writable (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand run" -l privileged -d 'Give all the capabilities that the user namespace has, and hide nothing'
complete -c coracle -n "__fish_coracle_using_subcommand run" -s P -l publish-all -d 'Publish all ports that the image or --expose names, each on a port of the host that is free'
complete -c coracle -n "__fish_coracle_using_subcommand run" -l oom-kill-disable
complete -c coracle -n "__fish_coracle_using_subcommand run" -l unsetenv-all -d 'Remove all variables that are not asked for'
complete -c coracle -n "__fish_coracle_using_subcommand run" -l env-host -d 'Pass all variables of this shell on'
complete -c coracle -n "__fish_coracle_using_subcommand run" -l http-proxy -d 'Pass the proxy variables of this shell on (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand run" -l rootfs -d 'The first argument is a folder to run instead of an image; PATH:O keeps it as it is'
complete -c coracle -n "__fish_coracle_using_subcommand run" -l no-hosts -d 'Leave the image\'s /etc/hosts alone'
complete -c coracle -n "__fish_coracle_using_subcommand run" -l no-hostname -d 'Leave the image\'s /etc/hostname alone'
complete -c coracle -n "__fish_coracle_using_subcommand run" -l passwd -d 'Add the container\'s user to /etc/passwd and /etc/group (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand run" -l replace -d 'Remove a container of the same name first'
complete -c coracle -n "__fish_coracle_using_subcommand run" -l tls-verify -d 'Require HTTPS and a valid certificate of the registry (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand run" -s q -l quiet -d 'Show no progress while pulling'
complete -c coracle -n "__fish_coracle_using_subcommand run" -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand create" -l name -d 'Name the container' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l entrypoint -d 'Replace the image\'s entrypoint: a JSON array or one word' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -s w -l workdir -d 'Working directory in the container' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -s u -l user -d 'User in the container' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -s h -l hostname -d 'Host name of the container' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -s l -l label -d 'Set a label' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l label-file -d 'Read labels from FILE, one per line' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l stop-signal -d 'Signal that stops the container' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l stop-timeout -d 'Seconds that a stop waits before it kills, -1 for ever' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l detach-keys -d 'Keys that detach from the container (default ctrl-p,ctrl-q)' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l cidfile -d 'Write the container\'s id to FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l log-driver -d 'Where output is kept: k8s-file (default) or none' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l log-opt -d 'Option of the log: max-size=SIZE, max-file=COUNT' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -s e -l env -d 'Set a variable; without a value, pass it on' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l env-file -d 'Read variables from FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l unsetenv -d 'Remove a variable of the image' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -s v -l volume -d 'Mount [SOURCE:]DIR[:OPTIONS], the source a path or a volume' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l mount -d 'Mount type=bind|volume|tmpfs|image|ramfs|devpts|glob,source=...,target=DIR[,readonly...]' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l tmpfs -d 'Mount a tmpfs at DIR[:size=SIZE,mode=MODE...]' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l shm-size -d 'Size of /dev/shm (default 64m)' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l cap-add -d 'Add a capability, or ALL' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l cap-drop -d 'Drop a capability, or ALL' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l security-opt -d 'no-new-privileges, seccomp=unconfined|FILE, mask=PATH, unmask=PATH|ALL, label=disable' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l network -d 'Network: bridge (default), none, host, container:NAME, or NAME[:ip=ADDRESS,mac=MAC,alias=NAME] (several times: on each)' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l ip -d 'Have this address on the network' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l ip6 -d 'Have this IPv6 address on the network' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l mac-address -d 'Have this hardware address on the network' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l network-alias -d 'Be found by this name on the network, too' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -s p -l publish -d 'Publish [[IP:][HOST-PORT]:]PORT[/tcp|/udp] on the host' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l add-host -d 'Add a line to /etc/hosts' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l dns -d 'Use this name server; \'none\' leaves /etc/resolv.conf alone' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l dns-search -d 'Search this domain; \'.\' for none' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l dns-option -d 'Set an option of resolv.conf' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -s m -l memory -d 'Limit memory, as in 512m or 2g' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l memory-swap -d 'Limit memory and swap together; -1 is no limit (default twice --memory)' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l memory-reservation -d 'Keep this much memory for it when memory is short' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l cpus -d 'Limit processor time, as in 1.5' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -s c -l cpu-shares -d 'Weight of its processor time beside others (default 1024)' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l cpu-period -d 'Span of time over which --cpu-quota counts (default 100000)' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l cpu-quota -d 'Processor time in each span, -1 for no limit' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l cpuset-cpus -d 'Processors that it may use, as in 0-2,5' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l cpuset-mems -d 'Memory nodes that it may use' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l pids-limit -d 'Limit processes and threads, -1 for no limit (default 2048)' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l blkio-weight -d 'Weight of its block I/O beside others, 10 to 1000' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l blkio-weight-device -d 'The same for one device' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l device-read-bps -d 'Limit reading, bytes per second, as in /dev/sda:1m' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l device-write-bps -d 'Limit writing, bytes per second' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l device-read-iops -d 'Limit reading, operations per second' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l device-write-iops -d 'Limit writing, operations per second' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l memory-swappiness -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l cpu-rt-period -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l cpu-rt-runtime -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l kernel-memory -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l cgroup-conf -d 'Set a file of its cgroup, as in memory.high=1g' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l cgroup-parent -d 'Slice or cgroup to put its cgroup below' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l cgroups -d 'Cgroup of its own: enabled (default), disabled or split' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l cgroupns -d 'Cgroup namespace: private (default) or host' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l userns -d 'User namespace: host (default), keep-id[:uid=UID,gid=GID], auto[:size=N], nomap or container:NAME' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l uidmap -d 'Map COUNT user ids from ID on; FROM 0 is you, 1 your first subordinate id' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l gidmap -d 'Map COUNT group ids from ID on' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l pid -d 'Process namespace: private (default), host or container:NAME' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l ipc -d 'IPC namespace: shareable (default), private, none, host or container:NAME' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l uts -d 'Host name\'s namespace: private (default), host or container:NAME' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l sysctl -d 'Set a kernel setting of the container\'s own namespaces' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l env-merge -d 'Set a variable; ${OTHER} in VALUE is a variable of the image' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l group-add -d 'Add a group, or keep-groups for your own ones' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l ulimit -d 'Set a resource limit; \'host\' keeps those of this shell' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l umask -d 'Umask of the container (default 0022)' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l oom-score-adj -d 'How readily the kernel kills it for memory, -1000 to 1000' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l personality -d 'Execution domain: LINUX or LINUX32' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l timeout -d 'Kill the container if it runs longer' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l systemd -d 'Prepare for systemd: true (default: if the command is an init), false or always' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l volumes-from -d 'Mount what another container mounts; options ro, rw, z' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l image-volume -d 'What the image\'s volumes are: anonymous (default), tmpfs or ignore' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l device -d 'Add a device of the host, or a folder of them' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l tz -d 'Time zone: \'local\' for this machine\'s, or a name such as Europe/Paris' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l hostuser -d 'Add a user of the host to /etc/passwd' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l passwd-entry -d 'What is added to /etc/passwd; $USERNAME, $UID, $GID, $NAME, $HOME' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l group-entry -d 'What is added to /etc/group; $GROUPNAME, $GID, $USERLIST' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l pidfile -d 'Write the pid of the container\'s first process to FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l domainname -d 'NIS domain name of the container' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l annotation -d 'Record an annotation' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l expose -d 'Record that the container listens on a port or a range' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l init-path -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l conmon-pidfile -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l pull -d 'When to ask the registry: missing (default), always, newer or never' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l platform -d 'Choose this platform of an image that has several' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l authfile -d 'Read the registry\'s credentials from FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l os -d 'Choose the image for this operating system' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l arch -d 'Choose the image for this architecture' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -l variant -d 'Choose the image for this variant of the architecture' -r
complete -c coracle -n "__fish_coracle_using_subcommand create" -s i -l interactive -d 'Keep standard input open'
complete -c coracle -n "__fish_coracle_using_subcommand create" -s t -l tty -d 'Allocate a terminal'
complete -c coracle -n "__fish_coracle_using_subcommand create" -l rm -d 'Remove the container when it exits'
complete -c coracle -n "__fish_coracle_using_subcommand create" -l init -d 'Run a small init as process 1 that forwards signals and reaps processes'
complete -c coracle -n "__fish_coracle_using_subcommand create" -l read-only -d 'Mount the container\'s root read-only'
complete -c coracle -n "__fish_coracle_using_subcommand create" -l read-only-tmpfs -d 'With --read-only: /run, /tmp and /var/tmp are writable (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand create" -l privileged -d 'Give all the capabilities that the user namespace has, and hide nothing'
complete -c coracle -n "__fish_coracle_using_subcommand create" -s P -l publish-all -d 'Publish all ports that the image or --expose names, each on a port of the host that is free'
complete -c coracle -n "__fish_coracle_using_subcommand create" -l oom-kill-disable
complete -c coracle -n "__fish_coracle_using_subcommand create" -l unsetenv-all -d 'Remove all variables that are not asked for'
complete -c coracle -n "__fish_coracle_using_subcommand create" -l env-host -d 'Pass all variables of this shell on'
complete -c coracle -n "__fish_coracle_using_subcommand create" -l http-proxy -d 'Pass the proxy variables of this shell on (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand create" -l rootfs -d 'The first argument is a folder to run instead of an image; PATH:O keeps it as it is'
complete -c coracle -n "__fish_coracle_using_subcommand create" -l no-hosts -d 'Leave the image\'s /etc/hosts alone'
complete -c coracle -n "__fish_coracle_using_subcommand create" -l no-hostname -d 'Leave the image\'s /etc/hostname alone'
complete -c coracle -n "__fish_coracle_using_subcommand create" -l passwd -d 'Add the container\'s user to /etc/passwd and /etc/group (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand create" -l replace -d 'Remove a container of the same name first'
complete -c coracle -n "__fish_coracle_using_subcommand create" -l tls-verify -d 'Require HTTPS and a valid certificate of the registry (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand create" -s q -l quiet -d 'Show no progress while pulling'
complete -c coracle -n "__fish_coracle_using_subcommand create" -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand start" -l detach-keys -d 'Keys that detach from the container (default ctrl-p,ctrl-q)' -r
complete -c coracle -n "__fish_coracle_using_subcommand start" -s f -l filter -d 'The containers that pass, as \'coracle ps --filter\' has them' -r
complete -c coracle -n "__fish_coracle_using_subcommand start" -s a -l attach -d 'Show the container\'s output and take its exit code'
complete -c coracle -n "__fish_coracle_using_subcommand start" -s i -l interactive -d 'Pass standard input on to the container'
complete -c coracle -n "__fish_coracle_using_subcommand start" -l sig-proxy -d 'Pass signals on to the container (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand start" -l all -d 'Start all containers that do not run'
complete -c coracle -n "__fish_coracle_using_subcommand start" -s l -l latest -d 'The container that was made last'
complete -c coracle -n "__fish_coracle_using_subcommand start" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand stop" -s t -l time -d 'Seconds to wait before the container is killed (default 10), -1 for ever' -r
complete -c coracle -n "__fish_coracle_using_subcommand stop" -s s -l signal -d 'Ask with this signal (default the container\'s own)' -r
complete -c coracle -n "__fish_coracle_using_subcommand stop" -l cidfile -d 'The container whose id is in FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand stop" -s f -l filter -d 'The containers that pass, as \'coracle ps --filter\' has them' -r
complete -c coracle -n "__fish_coracle_using_subcommand stop" -s a -l all -d 'Stop all running containers'
complete -c coracle -n "__fish_coracle_using_subcommand stop" -s l -l latest -d 'The container that was made last'
complete -c coracle -n "__fish_coracle_using_subcommand stop" -s i -l ignore -d 'A container that is not there is no error'
complete -c coracle -n "__fish_coracle_using_subcommand stop" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand restart" -s t -l time -d 'Seconds to wait before the container is killed (default 10), -1 for ever' -r
complete -c coracle -n "__fish_coracle_using_subcommand restart" -s s -l signal -d 'Ask with this signal (default the container\'s own)' -r
complete -c coracle -n "__fish_coracle_using_subcommand restart" -l cidfile -d 'The container whose id is in FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand restart" -s f -l filter -d 'The containers that pass, as \'coracle ps --filter\' has them' -r
complete -c coracle -n "__fish_coracle_using_subcommand restart" -s a -l all -d 'Restart all containers'
complete -c coracle -n "__fish_coracle_using_subcommand restart" -l running -d 'Restart all running containers'
complete -c coracle -n "__fish_coracle_using_subcommand restart" -s l -l latest -d 'The container that was made last'
complete -c coracle -n "__fish_coracle_using_subcommand restart" -s i -l ignore -d 'A container that is not there is no error'
complete -c coracle -n "__fish_coracle_using_subcommand restart" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand kill" -s s -l signal -d 'The signal (default KILL)' -r
complete -c coracle -n "__fish_coracle_using_subcommand kill" -l cidfile -d 'The container whose id is in FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand kill" -s a -l all -d 'Signal all running containers'
complete -c coracle -n "__fish_coracle_using_subcommand kill" -s l -l latest -d 'The container that was made last'
complete -c coracle -n "__fish_coracle_using_subcommand kill" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand pause" -s a -l all -d 'Freeze all running containers'
complete -c coracle -n "__fish_coracle_using_subcommand pause" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand unpause" -s a -l all -d 'Let all paused containers go on'
complete -c coracle -n "__fish_coracle_using_subcommand unpause" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand rm" -l cidfile -d 'The container whose id is in FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand rm" -l filter -d 'The containers that pass, as \'coracle ps --filter\' has them' -r
complete -c coracle -n "__fish_coracle_using_subcommand rm" -s t -l time -d 'With --force: seconds to wait before the container is killed, -1 for ever' -r
complete -c coracle -n "__fish_coracle_using_subcommand rm" -s f -l force -d 'Stop and remove running containers too'
complete -c coracle -n "__fish_coracle_using_subcommand rm" -s v -l volumes -d 'Remove the containers\' anonymous volumes too'
complete -c coracle -n "__fish_coracle_using_subcommand rm" -s a -l all -d 'Remove all containers'
complete -c coracle -n "__fish_coracle_using_subcommand rm" -s l -l latest -d 'The container that was made last'
complete -c coracle -n "__fish_coracle_using_subcommand rm" -s i -l ignore -d 'A container that is not there is no error'
complete -c coracle -n "__fish_coracle_using_subcommand rm" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand remove" -l cidfile -d 'The container whose id is in FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand remove" -l filter -d 'The containers that pass, as \'coracle ps --filter\' has them' -r
complete -c coracle -n "__fish_coracle_using_subcommand remove" -s t -l time -d 'With --force: seconds to wait before the container is killed, -1 for ever' -r
complete -c coracle -n "__fish_coracle_using_subcommand remove" -s f -l force -d 'Stop and remove running containers too'
complete -c coracle -n "__fish_coracle_using_subcommand remove" -s v -l volumes -d 'Remove the containers\' anonymous volumes too'
complete -c coracle -n "__fish_coracle_using_subcommand remove" -s a -l all -d 'Remove all containers'
complete -c coracle -n "__fish_coracle_using_subcommand remove" -s l -l latest -d 'The container that was made last'
complete -c coracle -n "__fish_coracle_using_subcommand remove" -s i -l ignore -d 'A container that is not there is no error'
complete -c coracle -n "__fish_coracle_using_subcommand remove" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand rename" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand exec" -s e -l env -d 'Set a variable; without a value, pass it on' -r
complete -c coracle -n "__fish_coracle_using_subcommand exec" -l env-file -d 'Read variables from FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand exec" -s u -l user -d 'User in the container' -r
complete -c coracle -n "__fish_coracle_using_subcommand exec" -s w -l workdir -d 'Working directory in the container' -r
complete -c coracle -n "__fish_coracle_using_subcommand exec" -l detach-keys -d 'Keys that detach from the command (default ctrl-p,ctrl-q)' -r
complete -c coracle -n "__fish_coracle_using_subcommand exec" -l preserve-fds -d 'Hand on so many open descriptors, from number 3 on' -r
complete -c coracle -n "__fish_coracle_using_subcommand exec" -l preserve-fd -d 'Hand on these open descriptors' -r
complete -c coracle -n "__fish_coracle_using_subcommand exec" -l cidfile -d 'The container whose id is in FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand exec" -s d -l detach -d 'Don\'t wait for the command'
complete -c coracle -n "__fish_coracle_using_subcommand exec" -s i -l interactive -d 'Keep standard input open'
complete -c coracle -n "__fish_coracle_using_subcommand exec" -s t -l tty -d 'Allocate a terminal'
complete -c coracle -n "__fish_coracle_using_subcommand exec" -l privileged -d 'Give all the capabilities that the user namespace has'
complete -c coracle -n "__fish_coracle_using_subcommand exec" -s l -l latest -d 'The container that was made last'
complete -c coracle -n "__fish_coracle_using_subcommand exec" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand attach" -l detach-keys -d 'Keys that detach from the container (default ctrl-p,ctrl-q)' -r
complete -c coracle -n "__fish_coracle_using_subcommand attach" -l no-stdin -d 'Don\'t pass standard input on'
complete -c coracle -n "__fish_coracle_using_subcommand attach" -l sig-proxy -d 'Pass signals on to the container (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand attach" -s l -l latest -d 'The container that was made last'
complete -c coracle -n "__fish_coracle_using_subcommand attach" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand ps" -s n -l last -d 'Show the newest containers only, in any state' -r
complete -c coracle -n "__fish_coracle_using_subcommand ps" -s f -l filter -d 'Show only: id=, name=, label=, status=, exited=, ancestor=, before=, since=, volume=, network=, until=' -r
complete -c coracle -n "__fish_coracle_using_subcommand ps" -l format -d 'Show each by a template, or as \'json\', or \'table TEMPLATE\'' -r
complete -c coracle -n "__fish_coracle_using_subcommand ps" -l sort -d 'Sort by created, command, id, image, names, size or status' -r
complete -c coracle -n "__fish_coracle_using_subcommand ps" -s a -l all -d 'Show stopped containers too'
complete -c coracle -n "__fish_coracle_using_subcommand ps" -s l -l latest -d 'Show the newest container only, in any state'
complete -c coracle -n "__fish_coracle_using_subcommand ps" -s q -l quiet -d 'Show ids only'
complete -c coracle -n "__fish_coracle_using_subcommand ps" -l no-trunc -d 'Show ids and commands in full'
complete -c coracle -n "__fish_coracle_using_subcommand ps" -s s -l size -d 'Show the size of what each container has written'
complete -c coracle -n "__fish_coracle_using_subcommand ps" -l noheading -d 'Leave out the column heads'
complete -c coracle -n "__fish_coracle_using_subcommand ps" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand cp" -s a -l archive -d 'Keep the owners of the files'
complete -c coracle -n "__fish_coracle_using_subcommand cp" -s L -l follow-link -d 'Copy what a link leads to, if the source is one'
complete -c coracle -n "__fish_coracle_using_subcommand cp" -l overwrite -d 'Let a file take the place of a directory and the other way round'
complete -c coracle -n "__fish_coracle_using_subcommand cp" -s q -l quiet -d 'Don\'t say how much was copied'
complete -c coracle -n "__fish_coracle_using_subcommand cp" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand diff" -l format -d 'Show it as \'json\'' -r
complete -c coracle -n "__fish_coracle_using_subcommand diff" -s l -l latest -d 'The container that was made last'
complete -c coracle -n "__fish_coracle_using_subcommand diff" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand export" -s o -l output -d 'Write to FILE, not to standard output' -r
complete -c coracle -n "__fish_coracle_using_subcommand export" -s l -l latest -d 'The container that was made last'
complete -c coracle -n "__fish_coracle_using_subcommand export" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand commit" -s a -l author -d 'Say who made the image' -r
complete -c coracle -n "__fish_coracle_using_subcommand commit" -s c -l change -d 'Change how it is run: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME or WORKDIR' -r
complete -c coracle -n "__fish_coracle_using_subcommand commit" -s f -l format -d 'Give it a manifest of \'oci\' (default) or \'docker\'' -r
complete -c coracle -n "__fish_coracle_using_subcommand commit" -l iidfile -d 'Write the image\'s id to FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand commit" -s m -l message -d 'Put a note into the image\'s history' -r
complete -c coracle -n "__fish_coracle_using_subcommand commit" -l include-volumes -d 'Say in the image where the container has volumes'
complete -c coracle -n "__fish_coracle_using_subcommand commit" -s p -l pause -d 'Freeze the container meanwhile (default: if that is possible)'
complete -c coracle -n "__fish_coracle_using_subcommand commit" -s q -l quiet -d 'Show nothing but the image\'s id'
complete -c coracle -n "__fish_coracle_using_subcommand commit" -s s -l squash -d 'Make one layer of the image\'s and the container\'s'
complete -c coracle -n "__fish_coracle_using_subcommand commit" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand logs" -s n -l tail -d 'Show only so many lines from the end (default all)' -r
complete -c coracle -n "__fish_coracle_using_subcommand logs" -l since -d 'Show what is newer than a time in UTC or a span, as in 10m' -r
complete -c coracle -n "__fish_coracle_using_subcommand logs" -l until -d 'Show what is older than a time in UTC or a span, as in 10m' -r
complete -c coracle -n "__fish_coracle_using_subcommand logs" -s f -l follow -d 'Go on with what is still to come'
complete -c coracle -n "__fish_coracle_using_subcommand logs" -s t -l timestamps -d 'Show each line\'s time'
complete -c coracle -n "__fish_coracle_using_subcommand logs" -l names -d 'With several containers: begin each line with the name, not the id'
complete -c coracle -n "__fish_coracle_using_subcommand logs" -l color -d 'With several containers: show each in a colour of its own'
complete -c coracle -n "__fish_coracle_using_subcommand logs" -s l -l latest -d 'The container that was made last'
complete -c coracle -n "__fish_coracle_using_subcommand logs" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand wait" -l condition -d 'What to wait for: stopped (default), exited, created, running, paused or removing' -r
complete -c coracle -n "__fish_coracle_using_subcommand wait" -s i -l interval -d 'Time between two looks for other states than stopped (default 250ms)' -r
complete -c coracle -n "__fish_coracle_using_subcommand wait" -l ignore -d 'A container that is not there is no error'
complete -c coracle -n "__fish_coracle_using_subcommand wait" -s l -l latest -d 'The container that was made last'
complete -c coracle -n "__fish_coracle_using_subcommand wait" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand stats" -s i -l interval -d 'Seconds between two looks (default 1)' -r
complete -c coracle -n "__fish_coracle_using_subcommand stats" -l format -d 'Show each by a template, or as \'json\', or \'table TEMPLATE\'' -r
complete -c coracle -n "__fish_coracle_using_subcommand stats" -s a -l all -d 'Show stopped containers too'
complete -c coracle -n "__fish_coracle_using_subcommand stats" -l no-stream -d 'Show it once, not again and again'
complete -c coracle -n "__fish_coracle_using_subcommand stats" -l no-reset -d 'Don\'t clear the screen between two looks'
complete -c coracle -n "__fish_coracle_using_subcommand stats" -l no-trunc -d 'Show ids in full'
complete -c coracle -n "__fish_coracle_using_subcommand stats" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand update" -s m -l memory -d 'Limit memory, as in 512m or 2g' -r
complete -c coracle -n "__fish_coracle_using_subcommand update" -l memory-swap -d 'Limit memory and swap together; -1 is no limit (default twice --memory)' -r
complete -c coracle -n "__fish_coracle_using_subcommand update" -l memory-reservation -d 'Keep this much memory for it when memory is short' -r
complete -c coracle -n "__fish_coracle_using_subcommand update" -l cpus -d 'Limit processor time, as in 1.5' -r
complete -c coracle -n "__fish_coracle_using_subcommand update" -s c -l cpu-shares -d 'Weight of its processor time beside others (default 1024)' -r
complete -c coracle -n "__fish_coracle_using_subcommand update" -l cpu-period -d 'Span of time over which --cpu-quota counts (default 100000)' -r
complete -c coracle -n "__fish_coracle_using_subcommand update" -l cpu-quota -d 'Processor time in each span, -1 for no limit' -r
complete -c coracle -n "__fish_coracle_using_subcommand update" -l cpuset-cpus -d 'Processors that it may use, as in 0-2,5' -r
complete -c coracle -n "__fish_coracle_using_subcommand update" -l cpuset-mems -d 'Memory nodes that it may use' -r
complete -c coracle -n "__fish_coracle_using_subcommand update" -l pids-limit -d 'Limit processes and threads, -1 for no limit (default 2048)' -r
complete -c coracle -n "__fish_coracle_using_subcommand update" -l blkio-weight -d 'Weight of its block I/O beside others, 10 to 1000' -r
complete -c coracle -n "__fish_coracle_using_subcommand update" -l blkio-weight-device -d 'The same for one device' -r
complete -c coracle -n "__fish_coracle_using_subcommand update" -l device-read-bps -d 'Limit reading, bytes per second, as in /dev/sda:1m' -r
complete -c coracle -n "__fish_coracle_using_subcommand update" -l device-write-bps -d 'Limit writing, bytes per second' -r
complete -c coracle -n "__fish_coracle_using_subcommand update" -l device-read-iops -d 'Limit reading, operations per second' -r
complete -c coracle -n "__fish_coracle_using_subcommand update" -l device-write-iops -d 'Limit writing, operations per second' -r
complete -c coracle -n "__fish_coracle_using_subcommand update" -l memory-swappiness -r
complete -c coracle -n "__fish_coracle_using_subcommand update" -l cpu-rt-period -r
complete -c coracle -n "__fish_coracle_using_subcommand update" -l cpu-rt-runtime -r
complete -c coracle -n "__fish_coracle_using_subcommand update" -l kernel-memory -r
complete -c coracle -n "__fish_coracle_using_subcommand update" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand port" -s a -l all -d 'Show the ports of all containers'
complete -c coracle -n "__fish_coracle_using_subcommand port" -s l -l latest -d 'The container that was made last'
complete -c coracle -n "__fish_coracle_using_subcommand port" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand top" -s l -l latest -d 'The container that was made last'
complete -c coracle -n "__fish_coracle_using_subcommand top" -l list-descriptors
complete -c coracle -n "__fish_coracle_using_subcommand top" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand inspect" -s f -l format -d 'Show each by a template, or as \'json\'' -r
complete -c coracle -n "__fish_coracle_using_subcommand inspect" -s t -l type -d 'Look only for a container, image, volume or network (default all)' -r
complete -c coracle -n "__fish_coracle_using_subcommand inspect" -s s -l size -d 'Show the sizes of containers too'
complete -c coracle -n "__fish_coracle_using_subcommand inspect" -s l -l latest -d 'The container that was made last'
complete -c coracle -n "__fish_coracle_using_subcommand inspect" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand pull" -l policy -d 'When to ask the registry: missing (default), always, newer or never' -r
complete -c coracle -n "__fish_coracle_using_subcommand pull" -l platform -d 'Choose this platform of an image that has several' -r
complete -c coracle -n "__fish_coracle_using_subcommand pull" -l authfile -d 'Read the registry\'s credentials from FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand pull" -l creds -d 'Log in to the registry so' -r
complete -c coracle -n "__fish_coracle_using_subcommand pull" -l cert-dir -d 'Trust the certificates in DIR too' -r
complete -c coracle -n "__fish_coracle_using_subcommand pull" -l os -d 'Choose the image for this operating system' -r
complete -c coracle -n "__fish_coracle_using_subcommand pull" -l arch -d 'Choose the image for this architecture' -r
complete -c coracle -n "__fish_coracle_using_subcommand pull" -l variant -d 'Choose the image for this variant of the architecture' -r
complete -c coracle -n "__fish_coracle_using_subcommand pull" -l retry -d 'Make a failed request again so often (default 3)' -r
complete -c coracle -n "__fish_coracle_using_subcommand pull" -l retry-delay -d 'Wait so long before the first time, longer each time (default 1s)' -r
complete -c coracle -n "__fish_coracle_using_subcommand pull" -l tls-verify -d 'Require HTTPS and a valid certificate of the registry (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand pull" -s q -l quiet -d 'Show no progress while pulling'
complete -c coracle -n "__fish_coracle_using_subcommand pull" -s a -l all-tags -d 'Get all tags of the repository'
complete -c coracle -n "__fish_coracle_using_subcommand pull" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand push" -l authfile -d 'Read the registry\'s credentials from FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand push" -l cert-dir -d 'Trust the certificates in DIR too' -r
complete -c coracle -n "__fish_coracle_using_subcommand push" -l creds -d 'Log in to the registry so' -r
complete -c coracle -n "__fish_coracle_using_subcommand push" -l digestfile -d 'Write the digest of what is in the registry then to FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand push" -l compression-format -d 'Compress layers with gzip (default) or zstd' -r
complete -c coracle -n "__fish_coracle_using_subcommand push" -l compression-level -d 'Compress so hard: 1 to 9 for gzip (default 6), 1 to 20 for zstd (default 3)' -r
complete -c coracle -n "__fish_coracle_using_subcommand push" -s f -l format -d 'The form of the manifest: oci (v2s1) or docker (v2s2); default is the image\'s own, or oci' -r
complete -c coracle -n "__fish_coracle_using_subcommand push" -l retry -d 'Make a failed request again so often (default 3)' -r
complete -c coracle -n "__fish_coracle_using_subcommand push" -l retry-delay -d 'Wait so long before the first time, longer each time (default 1s)' -r
complete -c coracle -n "__fish_coracle_using_subcommand push" -l tls-verify -d 'Require HTTPS and a valid certificate of the registry (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand push" -s a -l all-tags -d 'Send all tags of the repository'
complete -c coracle -n "__fish_coracle_using_subcommand push" -s q -l quiet -d 'Show no progress, only the name'
complete -c coracle -n "__fish_coracle_using_subcommand push" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand images" -s f -l filter -d 'Show only: reference=PATTERN, dangling=BOOL, label=KEY[=VALUE], before=IMAGE, since=IMAGE, until=TIME, id=ID, containers=BOOL' -r
complete -c coracle -n "__fish_coracle_using_subcommand images" -l format -d 'Show each by a template, or as \'json\', or \'table TEMPLATE\'' -r
complete -c coracle -n "__fish_coracle_using_subcommand images" -l sort -d 'Sort by created (default), id, repository, size or tag' -r
complete -c coracle -n "__fish_coracle_using_subcommand images" -s a -l all -d 'Show intermediate images too; there are none, so this changes nothing'
complete -c coracle -n "__fish_coracle_using_subcommand images" -l digests -d 'Show digests'
complete -c coracle -n "__fish_coracle_using_subcommand images" -s q -l quiet -d 'Show ids only'
complete -c coracle -n "__fish_coracle_using_subcommand images" -l no-trunc -d 'Show ids in full'
complete -c coracle -n "__fish_coracle_using_subcommand images" -s n -l noheading -d 'Leave out the column heads'
complete -c coracle -n "__fish_coracle_using_subcommand images" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand rmi" -s f -l force -d 'Remove all names of an image, and images of stopped containers'
complete -c coracle -n "__fish_coracle_using_subcommand rmi" -s a -l all -d 'Remove all images'
complete -c coracle -n "__fish_coracle_using_subcommand rmi" -s i -l ignore -d 'An image that is not there is no error'
complete -c coracle -n "__fish_coracle_using_subcommand rmi" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand tag" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand untag" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand load" -s i -l input -d 'Read FILE, not standard input' -r
complete -c coracle -n "__fish_coracle_using_subcommand load" -s q -l quiet -d 'Show no progress'
complete -c coracle -n "__fish_coracle_using_subcommand load" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand save" -s o -l output -d 'Write FILE, not standard output' -r
complete -c coracle -n "__fish_coracle_using_subcommand save" -l format -d 'docker-archive (default), oci-archive, oci-dir or docker-dir (skopeo\'s dir)' -r
complete -c coracle -n "__fish_coracle_using_subcommand save" -l compress -d 'Compress layers with gzip; for docker-dir'
complete -c coracle -n "__fish_coracle_using_subcommand save" -l uncompressed -d 'Do not compress layers, which is what is done anyway'
complete -c coracle -n "__fish_coracle_using_subcommand save" -s m -l multi-image-archive -d 'Take all arguments for images, which is what is done anyway'
complete -c coracle -n "__fish_coracle_using_subcommand save" -s q -l quiet -d 'Show no progress'
complete -c coracle -n "__fish_coracle_using_subcommand save" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand import" -s c -l change -d 'Change how it is run: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME or WORKDIR' -r
complete -c coracle -n "__fish_coracle_using_subcommand import" -s m -l message -d 'Put a note into the image\'s history' -r
complete -c coracle -n "__fish_coracle_using_subcommand import" -l platform -d 'Say that the image is for this platform' -r
complete -c coracle -n "__fish_coracle_using_subcommand import" -l os -d 'Say that the image is for this operating system' -r
complete -c coracle -n "__fish_coracle_using_subcommand import" -l arch -d 'Say that the image is for this architecture' -r
complete -c coracle -n "__fish_coracle_using_subcommand import" -l variant -d 'Say that the image is for this variant of the architecture' -r
complete -c coracle -n "__fish_coracle_using_subcommand import" -l tls-verify -d 'Require a valid certificate of an https server (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand import" -s q -l quiet -d 'Show no progress'
complete -c coracle -n "__fish_coracle_using_subcommand import" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand build" -l annotation -d 'Set an annotation of the image\'s manifest' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l format -d 'Give the image a manifest of \'oci\' (default) or \'docker\'' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l iidfile -d 'Write the image\'s id to FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l env -d 'Set a variable of the image, which no step sees; without a value, pass it on' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l label -d 'Set a label of the image' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l metadata-file -d 'Write what was made to FILE, as JSON with BuildKit\'s keys' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -s o -l output -d 'Bring the result to a folder (FOLDER), as a tar archive to standard output (\'-\'), or where type=image, oci, docker, tar, local, registry or cacheonly says, with dest=, name=, push= and more' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l source-date-epoch -d 'Let the image say that it was made then (default: $SOURCE_DATE_EPOCH)' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -s t -l tag -d 'Name the image' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l timestamp -d 'Let the image say that it was made then, and all files of new layers' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l unsetenv -d 'Take a variable out of the image\'s environment' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l unsetlabel -d 'Take a label of the base image away' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l cache-from -d 'Take what steps made elsewhere from NAME in a registry, or type=registry,ref=NAME or type=local,src=FOLDER' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l cache-to -d 'Keep what steps made for builds elsewhere: NAME in a registry, type=registry,ref=NAME, type=local,dest=FOLDER (each with mode=min or max), or type=inline' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l call -d 'What to do: build (default), check, outline (tell what the target can be given) or targets; outline,format=json' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l build-arg -d 'Set a variable that the Dockerfile declares with ARG' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l build-context -d 'Let FROM and --from find this under NAME: a folder, docker-image://IMAGE, oci-layout://FOLDER[:TAG][@DIGEST], a git repository, a URL' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -s f -l file -d 'Read the Dockerfile from FILE (default: FOLDER/Dockerfile)' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l from -d 'Let the first FROM of the Dockerfile name IMAGE' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l ignorefile -d 'Read what is left out of the context from FILE, not from .dockerignore' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l jobs -d 'Build so many stages at the same time (default: one per processor)' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l manifest -d 'Add the image to a list, which is made if it is not there' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l no-cache-filter -d 'Carry out every step of this stage' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l platform -d 'Choose this platform of images that have several' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l progress -d 'Show the build as auto, plain (lines), tty (live), json (also rawjson) or quiet (also none)' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l target -d 'Build this stage of the Dockerfile, not the last one' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l os -d 'Choose the image for this operating system' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l arch -d 'Choose the image for this architecture' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l variant -d 'Choose the image for this variant of the architecture' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l authfile -d 'Read the registry\'s credentials from FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l cert-dir -d 'Trust the certificates in DIR too' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l creds -d 'Log in to the registry so' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l retry -d 'Make a failed request again so often (default 3)' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l retry-delay -d 'Wait so long before the first time, longer each time (default 1s)' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l shm-size -d 'Size of /dev/shm (default 64m)' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l cap-add -d 'Add a capability, or ALL' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l cap-drop -d 'Drop a capability, or ALL' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l security-opt -d 'no-new-privileges, seccomp=unconfined|FILE, mask=PATH, unmask=PATH|ALL, label=disable' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l network -d 'Network: bridge (default), none, host, container:NAME, or NAME[:ip=ADDRESS,mac=MAC,alias=NAME] (several times: on each)' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l add-host -d 'Add a line to /etc/hosts' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l dns -d 'Use this name server; \'none\' leaves /etc/resolv.conf alone' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l dns-search -d 'Search this domain; \'.\' for none' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l dns-option -d 'Set an option of resolv.conf' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -s m -l memory -d 'Limit memory, as in 512m or 2g' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l memory-swap -d 'Limit memory and swap together; -1 is no limit (default twice --memory)' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -s c -l cpu-shares -d 'Weight of its processor time beside others (default 1024)' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l cpu-period -d 'Span of time over which --cpu-quota counts (default 100000)' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l cpu-quota -d 'Processor time in each span, -1 for no limit' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l cpuset-cpus -d 'Processors that it may use, as in 0-2,5' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l cpuset-mems -d 'Memory nodes that it may use' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l cgroup-parent -d 'Slice or cgroup to put its cgroup below' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l cgroupns -d 'Cgroup namespace: private (default) or host' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l userns -d 'User namespace: host (the user\'s, which the image\'s files belong to)' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l pid -d 'Process namespace: private (default) or host' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l ipc -d 'IPC namespace: private (default), none or host' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l uts -d 'Host name\'s namespace: private (default) or host' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l group-add -d 'Add a group, or keep-groups for your own ones' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l ulimit -d 'Set a resource limit; \'host\' keeps those of this shell' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l device -d 'Add a device of the host, or a folder of them' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l allow -d 'Let RUN use what it may not by itself: network.host' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l secret -d 'A secret for RUN --mount=type=secret' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l ssh -d 'An SSH agent for RUN --mount=type=ssh (default $SSH_AUTH_SOCK)' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -s v -l volume -d 'Mount a file or folder of this machine into each RUN; the cache does not see what changes in it' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l attest -d 'Make no attestation, which is never done' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l builder -d 'Use the builder \'default\', the only one that there is' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l isolation -d 'Isolate steps as containers, which is always done: default, oci or rootless' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l provenance -d 'Make no attestation of the provenance, which is never done' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l sbom -d 'Make no attestation of what is in the image, which is never done' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l unsetannotation -d 'Take no annotation of this name from the base image, as is done with all' -r
complete -c coracle -n "__fish_coracle_using_subcommand build" -l identity-label -d 'Say in a label which version of coracle built it'
complete -c coracle -n "__fish_coracle_using_subcommand build" -l load -d 'Keep the image in the store, which is done anyway unless --output says otherwise'
complete -c coracle -n "__fish_coracle_using_subcommand build" -l omit-history -d 'Leave the steps out of the image\'s config'
complete -c coracle -n "__fish_coracle_using_subcommand build" -l push -d 'Send the image to the registry of each of its names'
complete -c coracle -n "__fish_coracle_using_subcommand build" -l rewrite-timestamp -d 'Let no file of a new layer be later than --source-date-epoch'
complete -c coracle -n "__fish_coracle_using_subcommand build" -l squash -d 'Make one layer of all that the build makes'
complete -c coracle -n "__fish_coracle_using_subcommand build" -l squash-all -d 'Make one layer of these and the base image\'s'
complete -c coracle -n "__fish_coracle_using_subcommand build" -l check -d 'Tell what is unwise in the Dockerfile, and build nothing: --call check'
complete -c coracle -n "__fish_coracle_using_subcommand build" -l http-proxy -d 'Pass the proxy variables of this shell on to RUN, as --build-arg does (default false)'
complete -c coracle -n "__fish_coracle_using_subcommand build" -l no-cache -d 'Carry out every step, or every step of STAGE, whatever earlier builds have made'
complete -c coracle -n "__fish_coracle_using_subcommand build" -l pull -d 'Ask the registry for newer base images'
complete -c coracle -n "__fish_coracle_using_subcommand build" -s q -l quiet -d 'Show nothing but the image\'s id'
complete -c coracle -n "__fish_coracle_using_subcommand build" -l tls-verify -d 'Require HTTPS and a valid certificate of the registry (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand build" -l no-hosts -d 'Leave the image\'s /etc/hosts alone'
complete -c coracle -n "__fish_coracle_using_subcommand build" -l no-hostname -d 'Leave the image\'s /etc/hostname alone'
complete -c coracle -n "__fish_coracle_using_subcommand build" -l shell-on-failure -d 'Open a shell in the state in which a failed RUN has left its files'
complete -c coracle -n "__fish_coracle_using_subcommand build" -l compress -d 'Compress the context on its way to a daemon: there is none, so nothing is sent'
complete -c coracle -n "__fish_coracle_using_subcommand build" -l disable-content-trust -d 'Check no signatures, which is never done (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand build" -l force-rm -d 'Remove the containers of steps also if the build fails, which is always done'
complete -c coracle -n "__fish_coracle_using_subcommand build" -l layers -d 'Keep a layer of each step (default true); with false, carry out every step and make one layer of all'
complete -c coracle -n "__fish_coracle_using_subcommand build" -l rm -d 'Remove the containers of steps, which is always done'
complete -c coracle -n "__fish_coracle_using_subcommand build" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand builder; and not __fish_seen_subcommand_from build du prune" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand builder; and not __fish_seen_subcommand_from build du prune" -f -a "build" -d 'Build an image from a Dockerfile'
complete -c coracle -n "__fish_coracle_using_subcommand builder; and not __fish_seen_subcommand_from build du prune" -f -a "du" -d 'Show what builds keep for later ones'
complete -c coracle -n "__fish_coracle_using_subcommand builder; and not __fish_seen_subcommand_from build du prune" -f -a "prune" -d 'Remove what builds keep for later ones'
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l annotation -d 'Set an annotation of the image\'s manifest' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l format -d 'Give the image a manifest of \'oci\' (default) or \'docker\'' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l iidfile -d 'Write the image\'s id to FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l env -d 'Set a variable of the image, which no step sees; without a value, pass it on' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l label -d 'Set a label of the image' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l metadata-file -d 'Write what was made to FILE, as JSON with BuildKit\'s keys' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -s o -l output -d 'Bring the result to a folder (FOLDER), as a tar archive to standard output (\'-\'), or where type=image, oci, docker, tar, local, registry or cacheonly says, with dest=, name=, push= and more' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l source-date-epoch -d 'Let the image say that it was made then (default: $SOURCE_DATE_EPOCH)' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -s t -l tag -d 'Name the image' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l timestamp -d 'Let the image say that it was made then, and all files of new layers' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l unsetenv -d 'Take a variable out of the image\'s environment' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l unsetlabel -d 'Take a label of the base image away' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l cache-from -d 'Take what steps made elsewhere from NAME in a registry, or type=registry,ref=NAME or type=local,src=FOLDER' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l cache-to -d 'Keep what steps made for builds elsewhere: NAME in a registry, type=registry,ref=NAME, type=local,dest=FOLDER (each with mode=min or max), or type=inline' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l call -d 'What to do: build (default), check, outline (tell what the target can be given) or targets; outline,format=json' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l build-arg -d 'Set a variable that the Dockerfile declares with ARG' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l build-context -d 'Let FROM and --from find this under NAME: a folder, docker-image://IMAGE, oci-layout://FOLDER[:TAG][@DIGEST], a git repository, a URL' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -s f -l file -d 'Read the Dockerfile from FILE (default: FOLDER/Dockerfile)' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l from -d 'Let the first FROM of the Dockerfile name IMAGE' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l ignorefile -d 'Read what is left out of the context from FILE, not from .dockerignore' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l jobs -d 'Build so many stages at the same time (default: one per processor)' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l manifest -d 'Add the image to a list, which is made if it is not there' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l no-cache-filter -d 'Carry out every step of this stage' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l platform -d 'Choose this platform of images that have several' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l progress -d 'Show the build as auto, plain (lines), tty (live), json (also rawjson) or quiet (also none)' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l target -d 'Build this stage of the Dockerfile, not the last one' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l os -d 'Choose the image for this operating system' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l arch -d 'Choose the image for this architecture' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l variant -d 'Choose the image for this variant of the architecture' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l authfile -d 'Read the registry\'s credentials from FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l cert-dir -d 'Trust the certificates in DIR too' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l creds -d 'Log in to the registry so' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l retry -d 'Make a failed request again so often (default 3)' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l retry-delay -d 'Wait so long before the first time, longer each time (default 1s)' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l shm-size -d 'Size of /dev/shm (default 64m)' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l cap-add -d 'Add a capability, or ALL' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l cap-drop -d 'Drop a capability, or ALL' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l security-opt -d 'no-new-privileges, seccomp=unconfined|FILE, mask=PATH, unmask=PATH|ALL, label=disable' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l network -d 'Network: bridge (default), none, host, container:NAME, or NAME[:ip=ADDRESS,mac=MAC,alias=NAME] (several times: on each)' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l add-host -d 'Add a line to /etc/hosts' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l dns -d 'Use this name server; \'none\' leaves /etc/resolv.conf alone' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l dns-search -d 'Search this domain; \'.\' for none' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l dns-option -d 'Set an option of resolv.conf' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -s m -l memory -d 'Limit memory, as in 512m or 2g' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l memory-swap -d 'Limit memory and swap together; -1 is no limit (default twice --memory)' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -s c -l cpu-shares -d 'Weight of its processor time beside others (default 1024)' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l cpu-period -d 'Span of time over which --cpu-quota counts (default 100000)' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l cpu-quota -d 'Processor time in each span, -1 for no limit' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l cpuset-cpus -d 'Processors that it may use, as in 0-2,5' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l cpuset-mems -d 'Memory nodes that it may use' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l cgroup-parent -d 'Slice or cgroup to put its cgroup below' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l cgroupns -d 'Cgroup namespace: private (default) or host' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l userns -d 'User namespace: host (the user\'s, which the image\'s files belong to)' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l pid -d 'Process namespace: private (default) or host' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l ipc -d 'IPC namespace: private (default), none or host' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l uts -d 'Host name\'s namespace: private (default) or host' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l group-add -d 'Add a group, or keep-groups for your own ones' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l ulimit -d 'Set a resource limit; \'host\' keeps those of this shell' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l device -d 'Add a device of the host, or a folder of them' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l allow -d 'Let RUN use what it may not by itself: network.host' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l secret -d 'A secret for RUN --mount=type=secret' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l ssh -d 'An SSH agent for RUN --mount=type=ssh (default $SSH_AUTH_SOCK)' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -s v -l volume -d 'Mount a file or folder of this machine into each RUN; the cache does not see what changes in it' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l attest -d 'Make no attestation, which is never done' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l builder -d 'Use the builder \'default\', the only one that there is' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l isolation -d 'Isolate steps as containers, which is always done: default, oci or rootless' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l provenance -d 'Make no attestation of the provenance, which is never done' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l sbom -d 'Make no attestation of what is in the image, which is never done' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l unsetannotation -d 'Take no annotation of this name from the base image, as is done with all' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l identity-label -d 'Say in a label which version of coracle built it'
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l load -d 'Keep the image in the store, which is done anyway unless --output says otherwise'
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l omit-history -d 'Leave the steps out of the image\'s config'
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l push -d 'Send the image to the registry of each of its names'
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l rewrite-timestamp -d 'Let no file of a new layer be later than --source-date-epoch'
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l squash -d 'Make one layer of all that the build makes'
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l squash-all -d 'Make one layer of these and the base image\'s'
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l check -d 'Tell what is unwise in the Dockerfile, and build nothing: --call check'
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l http-proxy -d 'Pass the proxy variables of this shell on to RUN, as --build-arg does (default false)'
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l no-cache -d 'Carry out every step, or every step of STAGE, whatever earlier builds have made'
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l pull -d 'Ask the registry for newer base images'
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -s q -l quiet -d 'Show nothing but the image\'s id'
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l tls-verify -d 'Require HTTPS and a valid certificate of the registry (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l no-hosts -d 'Leave the image\'s /etc/hosts alone'
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l no-hostname -d 'Leave the image\'s /etc/hostname alone'
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l shell-on-failure -d 'Open a shell in the state in which a failed RUN has left its files'
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l compress -d 'Compress the context on its way to a daemon: there is none, so nothing is sent'
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l disable-content-trust -d 'Check no signatures, which is never done (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l force-rm -d 'Remove the containers of steps also if the build fails, which is always done'
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l layers -d 'Keep a layer of each step (default true); with false, carry out every step and make one layer of all'
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -l rm -d 'Remove the containers of steps, which is always done'
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from build" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from du" -l filter -d 'Show only: until=TIME (not used since), id=ID, type=regular|source.local|exec.cachemount, shared=BOOL, inuse=BOOL' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from du" -l format -d 'Show each by a template, or as \'json\', or \'table TEMPLATE\'' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from du" -s v -l verbose -d 'Show all that is known of each'
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from du" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from prune" -l filter -d 'Remove only: until=TIME (not used since), id=ID, type=regular|source.local|exec.cachemount' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from prune" -l keep-storage -d 'Keep so much of it, that which was used last' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from prune" -l max-used-space -d 'The same, under docker\'s newer name' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from prune" -l reserved-space -d 'The same, under another of docker\'s names' -r
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from prune" -s a -l all -d 'Remove entries too whose layers images or containers need'
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from prune" -s f -l force -d 'Don\'t ask first'
complete -c coracle -n "__fish_coracle_using_subcommand builder; and __fish_seen_subcommand_from prune" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and not __fish_seen_subcommand_from build du prune" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and not __fish_seen_subcommand_from build du prune" -f -a "build" -d 'Build an image from a Dockerfile'
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and not __fish_seen_subcommand_from build du prune" -f -a "du" -d 'Show what builds keep for later ones'
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and not __fish_seen_subcommand_from build du prune" -f -a "prune" -d 'Remove what builds keep for later ones'
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l annotation -d 'Set an annotation of the image\'s manifest' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l format -d 'Give the image a manifest of \'oci\' (default) or \'docker\'' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l iidfile -d 'Write the image\'s id to FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l env -d 'Set a variable of the image, which no step sees; without a value, pass it on' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l label -d 'Set a label of the image' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l metadata-file -d 'Write what was made to FILE, as JSON with BuildKit\'s keys' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -s o -l output -d 'Bring the result to a folder (FOLDER), as a tar archive to standard output (\'-\'), or where type=image, oci, docker, tar, local, registry or cacheonly says, with dest=, name=, push= and more' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l source-date-epoch -d 'Let the image say that it was made then (default: $SOURCE_DATE_EPOCH)' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -s t -l tag -d 'Name the image' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l timestamp -d 'Let the image say that it was made then, and all files of new layers' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l unsetenv -d 'Take a variable out of the image\'s environment' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l unsetlabel -d 'Take a label of the base image away' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l cache-from -d 'Take what steps made elsewhere from NAME in a registry, or type=registry,ref=NAME or type=local,src=FOLDER' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l cache-to -d 'Keep what steps made for builds elsewhere: NAME in a registry, type=registry,ref=NAME, type=local,dest=FOLDER (each with mode=min or max), or type=inline' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l call -d 'What to do: build (default), check, outline (tell what the target can be given) or targets; outline,format=json' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l build-arg -d 'Set a variable that the Dockerfile declares with ARG' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l build-context -d 'Let FROM and --from find this under NAME: a folder, docker-image://IMAGE, oci-layout://FOLDER[:TAG][@DIGEST], a git repository, a URL' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -s f -l file -d 'Read the Dockerfile from FILE (default: FOLDER/Dockerfile)' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l from -d 'Let the first FROM of the Dockerfile name IMAGE' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l ignorefile -d 'Read what is left out of the context from FILE, not from .dockerignore' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l jobs -d 'Build so many stages at the same time (default: one per processor)' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l manifest -d 'Add the image to a list, which is made if it is not there' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l no-cache-filter -d 'Carry out every step of this stage' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l platform -d 'Choose this platform of images that have several' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l progress -d 'Show the build as auto, plain (lines), tty (live), json (also rawjson) or quiet (also none)' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l target -d 'Build this stage of the Dockerfile, not the last one' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l os -d 'Choose the image for this operating system' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l arch -d 'Choose the image for this architecture' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l variant -d 'Choose the image for this variant of the architecture' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l authfile -d 'Read the registry\'s credentials from FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l cert-dir -d 'Trust the certificates in DIR too' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l creds -d 'Log in to the registry so' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l retry -d 'Make a failed request again so often (default 3)' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l retry-delay -d 'Wait so long before the first time, longer each time (default 1s)' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l shm-size -d 'Size of /dev/shm (default 64m)' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l cap-add -d 'Add a capability, or ALL' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l cap-drop -d 'Drop a capability, or ALL' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l security-opt -d 'no-new-privileges, seccomp=unconfined|FILE, mask=PATH, unmask=PATH|ALL, label=disable' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l network -d 'Network: bridge (default), none, host, container:NAME, or NAME[:ip=ADDRESS,mac=MAC,alias=NAME] (several times: on each)' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l add-host -d 'Add a line to /etc/hosts' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l dns -d 'Use this name server; \'none\' leaves /etc/resolv.conf alone' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l dns-search -d 'Search this domain; \'.\' for none' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l dns-option -d 'Set an option of resolv.conf' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -s m -l memory -d 'Limit memory, as in 512m or 2g' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l memory-swap -d 'Limit memory and swap together; -1 is no limit (default twice --memory)' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -s c -l cpu-shares -d 'Weight of its processor time beside others (default 1024)' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l cpu-period -d 'Span of time over which --cpu-quota counts (default 100000)' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l cpu-quota -d 'Processor time in each span, -1 for no limit' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l cpuset-cpus -d 'Processors that it may use, as in 0-2,5' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l cpuset-mems -d 'Memory nodes that it may use' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l cgroup-parent -d 'Slice or cgroup to put its cgroup below' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l cgroupns -d 'Cgroup namespace: private (default) or host' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l userns -d 'User namespace: host (the user\'s, which the image\'s files belong to)' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l pid -d 'Process namespace: private (default) or host' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l ipc -d 'IPC namespace: private (default), none or host' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l uts -d 'Host name\'s namespace: private (default) or host' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l group-add -d 'Add a group, or keep-groups for your own ones' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l ulimit -d 'Set a resource limit; \'host\' keeps those of this shell' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l device -d 'Add a device of the host, or a folder of them' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l allow -d 'Let RUN use what it may not by itself: network.host' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l secret -d 'A secret for RUN --mount=type=secret' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l ssh -d 'An SSH agent for RUN --mount=type=ssh (default $SSH_AUTH_SOCK)' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -s v -l volume -d 'Mount a file or folder of this machine into each RUN; the cache does not see what changes in it' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l attest -d 'Make no attestation, which is never done' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l builder -d 'Use the builder \'default\', the only one that there is' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l isolation -d 'Isolate steps as containers, which is always done: default, oci or rootless' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l provenance -d 'Make no attestation of the provenance, which is never done' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l sbom -d 'Make no attestation of what is in the image, which is never done' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l unsetannotation -d 'Take no annotation of this name from the base image, as is done with all' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l identity-label -d 'Say in a label which version of coracle built it'
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l load -d 'Keep the image in the store, which is done anyway unless --output says otherwise'
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l omit-history -d 'Leave the steps out of the image\'s config'
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l push -d 'Send the image to the registry of each of its names'
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l rewrite-timestamp -d 'Let no file of a new layer be later than --source-date-epoch'
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l squash -d 'Make one layer of all that the build makes'
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l squash-all -d 'Make one layer of these and the base image\'s'
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l check -d 'Tell what is unwise in the Dockerfile, and build nothing: --call check'
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l http-proxy -d 'Pass the proxy variables of this shell on to RUN, as --build-arg does (default false)'
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l no-cache -d 'Carry out every step, or every step of STAGE, whatever earlier builds have made'
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l pull -d 'Ask the registry for newer base images'
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -s q -l quiet -d 'Show nothing but the image\'s id'
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l tls-verify -d 'Require HTTPS and a valid certificate of the registry (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l no-hosts -d 'Leave the image\'s /etc/hosts alone'
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l no-hostname -d 'Leave the image\'s /etc/hostname alone'
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l shell-on-failure -d 'Open a shell in the state in which a failed RUN has left its files'
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l compress -d 'Compress the context on its way to a daemon: there is none, so nothing is sent'
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l disable-content-trust -d 'Check no signatures, which is never done (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l force-rm -d 'Remove the containers of steps also if the build fails, which is always done'
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l layers -d 'Keep a layer of each step (default true); with false, carry out every step and make one layer of all'
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -l rm -d 'Remove the containers of steps, which is always done'
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from build" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from du" -l filter -d 'Show only: until=TIME (not used since), id=ID, type=regular|source.local|exec.cachemount, shared=BOOL, inuse=BOOL' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from du" -l format -d 'Show each by a template, or as \'json\', or \'table TEMPLATE\'' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from du" -s v -l verbose -d 'Show all that is known of each'
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from du" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from prune" -l filter -d 'Remove only: until=TIME (not used since), id=ID, type=regular|source.local|exec.cachemount' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from prune" -l keep-storage -d 'Keep so much of it, that which was used last' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from prune" -l max-used-space -d 'The same, under docker\'s newer name' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from prune" -l reserved-space -d 'The same, under another of docker\'s names' -r
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from prune" -s a -l all -d 'Remove entries too whose layers images or containers need'
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from prune" -s f -l force -d 'Don\'t ask first'
complete -c coracle -n "__fish_coracle_using_subcommand buildx; and __fish_seen_subcommand_from prune" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand history" -l format -d 'Show each by a template, or as \'json\', or \'table TEMPLATE\'' -r
complete -c coracle -n "__fish_coracle_using_subcommand history" -s H -l human -d 'Show times and sizes for people (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand history" -s q -l quiet -d 'Show ids only'
complete -c coracle -n "__fish_coracle_using_subcommand history" -l no-trunc -d 'Show everything in full'
complete -c coracle -n "__fish_coracle_using_subcommand history" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand search" -l authfile -d 'Read the registry\'s credentials from FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand search" -l cert-dir -d 'Trust the certificates in DIR too' -r
complete -c coracle -n "__fish_coracle_using_subcommand search" -l creds -d 'Log in to the registry so' -r
complete -c coracle -n "__fish_coracle_using_subcommand search" -l limit -d 'Show at most NUMBER answers of each registry (default 25)' -r
complete -c coracle -n "__fish_coracle_using_subcommand search" -s f -l filter -d 'Show only: stars=NUMBER, is-official=BOOL, is-automated=BOOL' -r
complete -c coracle -n "__fish_coracle_using_subcommand search" -l format -d 'Show each by a template, or as \'json\', or \'table TEMPLATE\'' -r
complete -c coracle -n "__fish_coracle_using_subcommand search" -l tls-verify -d 'Require HTTPS and a valid certificate of the registry (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand search" -l no-trunc -d 'Show descriptions in full'
complete -c coracle -n "__fish_coracle_using_subcommand search" -s n -l noheading -d 'Leave out the column heads'
complete -c coracle -n "__fish_coracle_using_subcommand search" -l compatible -d 'Show stars, official and automated, as docker does'
complete -c coracle -n "__fish_coracle_using_subcommand search" -l list-tags -d 'List the tags of the repository that is named'
complete -c coracle -n "__fish_coracle_using_subcommand search" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand login" -s u -l username -d 'The user; asked for if not given' -r
complete -c coracle -n "__fish_coracle_using_subcommand login" -s p -l password -d 'The password, which everybody on this machine can see so' -r
complete -c coracle -n "__fish_coracle_using_subcommand login" -l authfile -d 'Keep the credentials in FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand login" -l cert-dir -d 'Trust the certificates in DIR too' -r
complete -c coracle -n "__fish_coracle_using_subcommand login" -l password-stdin -d 'Read the password from standard input'
complete -c coracle -n "__fish_coracle_using_subcommand login" -l get-login -d 'Only show who is logged in'
complete -c coracle -n "__fish_coracle_using_subcommand login" -l tls-verify -d 'Require HTTPS and a valid certificate of the registry (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand login" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand logout" -l authfile -d 'Take the credentials out of FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand logout" -s a -l all -d 'Log out of all registries'
complete -c coracle -n "__fish_coracle_using_subcommand logout" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand container; and not __fish_seen_subcommand_from attach commit cp create diff exec exists export inspect kill logs pause port prune ls list ps rename restart rm remove run start stats stop top unpause update wait" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand container; and not __fish_seen_subcommand_from attach commit cp create diff exec exists export inspect kill logs pause port prune ls list ps rename restart rm remove run start stats stop top unpause update wait" -f -a "attach" -d 'Connect this terminal to a running container'
complete -c coracle -n "__fish_coracle_using_subcommand container; and not __fish_seen_subcommand_from attach commit cp create diff exec exists export inspect kill logs pause port prune ls list ps rename restart rm remove run start stats stop top unpause update wait" -f -a "commit" -d 'Make an image of a container and what it has changed'
complete -c coracle -n "__fish_coracle_using_subcommand container; and not __fish_seen_subcommand_from attach commit cp create diff exec exists export inspect kill logs pause port prune ls list ps rename restart rm remove run start stats stop top unpause update wait" -f -a "cp" -d 'Copy files between containers and the host'
complete -c coracle -n "__fish_coracle_using_subcommand container; and not __fish_seen_subcommand_from attach commit cp create diff exec exists export inspect kill logs pause port prune ls list ps rename restart rm remove run start stats stop top unpause update wait" -f -a "create" -d 'Create a container without starting it'
complete -c coracle -n "__fish_coracle_using_subcommand container; and not __fish_seen_subcommand_from attach commit cp create diff exec exists export inspect kill logs pause port prune ls list ps rename restart rm remove run start stats stop top unpause update wait" -f -a "diff" -d 'Show what a container has changed of its image'
complete -c coracle -n "__fish_coracle_using_subcommand container; and not __fish_seen_subcommand_from attach commit cp create diff exec exists export inspect kill logs pause port prune ls list ps rename restart rm remove run start stats stop top unpause update wait" -f -a "exec" -d 'Run a command in a running container'
complete -c coracle -n "__fish_coracle_using_subcommand container; and not __fish_seen_subcommand_from attach commit cp create diff exec exists export inspect kill logs pause port prune ls list ps rename restart rm remove run start stats stop top unpause update wait" -f -a "exists" -d 'Tell by the exit code whether there is a container: 0, or 1 if not'
complete -c coracle -n "__fish_coracle_using_subcommand container; and not __fish_seen_subcommand_from attach commit cp create diff exec exists export inspect kill logs pause port prune ls list ps rename restart rm remove run start stats stop top unpause update wait" -f -a "export" -d 'Write all files of a container as a tar archive'
complete -c coracle -n "__fish_coracle_using_subcommand container; and not __fish_seen_subcommand_from attach commit cp create diff exec exists export inspect kill logs pause port prune ls list ps rename restart rm remove run start stats stop top unpause update wait" -f -a "inspect" -d 'Show all there is to know about containers'
complete -c coracle -n "__fish_coracle_using_subcommand container; and not __fish_seen_subcommand_from attach commit cp create diff exec exists export inspect kill logs pause port prune ls list ps rename restart rm remove run start stats stop top unpause update wait" -f -a "kill" -d 'Send a signal to running containers'
complete -c coracle -n "__fish_coracle_using_subcommand container; and not __fish_seen_subcommand_from attach commit cp create diff exec exists export inspect kill logs pause port prune ls list ps rename restart rm remove run start stats stop top unpause update wait" -f -a "logs" -d 'Show the output of containers'
complete -c coracle -n "__fish_coracle_using_subcommand container; and not __fish_seen_subcommand_from attach commit cp create diff exec exists export inspect kill logs pause port prune ls list ps rename restart rm remove run start stats stop top unpause update wait" -f -a "pause" -d 'Freeze all processes of running containers'
complete -c coracle -n "__fish_coracle_using_subcommand container; and not __fish_seen_subcommand_from attach commit cp create diff exec exists export inspect kill logs pause port prune ls list ps rename restart rm remove run start stats stop top unpause update wait" -f -a "port" -d 'Show where a container\'s ports are published'
complete -c coracle -n "__fish_coracle_using_subcommand container; and not __fish_seen_subcommand_from attach commit cp create diff exec exists export inspect kill logs pause port prune ls list ps rename restart rm remove run start stats stop top unpause update wait" -f -a "prune" -d 'Remove all containers that do not run'
complete -c coracle -n "__fish_coracle_using_subcommand container; and not __fish_seen_subcommand_from attach commit cp create diff exec exists export inspect kill logs pause port prune ls list ps rename restart rm remove run start stats stop top unpause update wait" -f -a "ls" -d 'List containers'
complete -c coracle -n "__fish_coracle_using_subcommand container; and not __fish_seen_subcommand_from attach commit cp create diff exec exists export inspect kill logs pause port prune ls list ps rename restart rm remove run start stats stop top unpause update wait" -f -a "list" -d 'List containers'
complete -c coracle -n "__fish_coracle_using_subcommand container; and not __fish_seen_subcommand_from attach commit cp create diff exec exists export inspect kill logs pause port prune ls list ps rename restart rm remove run start stats stop top unpause update wait" -f -a "ps" -d 'List containers'
complete -c coracle -n "__fish_coracle_using_subcommand container; and not __fish_seen_subcommand_from attach commit cp create diff exec exists export inspect kill logs pause port prune ls list ps rename restart rm remove run start stats stop top unpause update wait" -f -a "rename" -d 'Give a container another name'
complete -c coracle -n "__fish_coracle_using_subcommand container; and not __fish_seen_subcommand_from attach commit cp create diff exec exists export inspect kill logs pause port prune ls list ps rename restart rm remove run start stats stop top unpause update wait" -f -a "restart" -d 'Stop containers and start them again'
complete -c coracle -n "__fish_coracle_using_subcommand container; and not __fish_seen_subcommand_from attach commit cp create diff exec exists export inspect kill logs pause port prune ls list ps rename restart rm remove run start stats stop top unpause update wait" -f -a "rm" -d 'Remove containers'
complete -c coracle -n "__fish_coracle_using_subcommand container; and not __fish_seen_subcommand_from attach commit cp create diff exec exists export inspect kill logs pause port prune ls list ps rename restart rm remove run start stats stop top unpause update wait" -f -a "remove" -d 'Remove containers'
complete -c coracle -n "__fish_coracle_using_subcommand container; and not __fish_seen_subcommand_from attach commit cp create diff exec exists export inspect kill logs pause port prune ls list ps rename restart rm remove run start stats stop top unpause update wait" -f -a "run" -d 'Create a container and run a command in it'
complete -c coracle -n "__fish_coracle_using_subcommand container; and not __fish_seen_subcommand_from attach commit cp create diff exec exists export inspect kill logs pause port prune ls list ps rename restart rm remove run start stats stop top unpause update wait" -f -a "start" -d 'Start stopped containers'
complete -c coracle -n "__fish_coracle_using_subcommand container; and not __fish_seen_subcommand_from attach commit cp create diff exec exists export inspect kill logs pause port prune ls list ps rename restart rm remove run start stats stop top unpause update wait" -f -a "stats" -d 'Show what containers use, again and again'
complete -c coracle -n "__fish_coracle_using_subcommand container; and not __fish_seen_subcommand_from attach commit cp create diff exec exists export inspect kill logs pause port prune ls list ps rename restart rm remove run start stats stop top unpause update wait" -f -a "stop" -d 'Stop running containers'
complete -c coracle -n "__fish_coracle_using_subcommand container; and not __fish_seen_subcommand_from attach commit cp create diff exec exists export inspect kill logs pause port prune ls list ps rename restart rm remove run start stats stop top unpause update wait" -f -a "top" -d 'Show the processes of a container'
complete -c coracle -n "__fish_coracle_using_subcommand container; and not __fish_seen_subcommand_from attach commit cp create diff exec exists export inspect kill logs pause port prune ls list ps rename restart rm remove run start stats stop top unpause update wait" -f -a "unpause" -d 'Let paused containers go on'
complete -c coracle -n "__fish_coracle_using_subcommand container; and not __fish_seen_subcommand_from attach commit cp create diff exec exists export inspect kill logs pause port prune ls list ps rename restart rm remove run start stats stop top unpause update wait" -f -a "update" -d 'Change the limits of containers'
complete -c coracle -n "__fish_coracle_using_subcommand container; and not __fish_seen_subcommand_from attach commit cp create diff exec exists export inspect kill logs pause port prune ls list ps rename restart rm remove run start stats stop top unpause update wait" -f -a "wait" -d 'Wait until containers stop and print their exit codes'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from attach" -l detach-keys -d 'Keys that detach from the container (default ctrl-p,ctrl-q)' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from attach" -l no-stdin -d 'Don\'t pass standard input on'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from attach" -l sig-proxy -d 'Pass signals on to the container (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from attach" -s l -l latest -d 'The container that was made last'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from attach" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from commit" -s a -l author -d 'Say who made the image' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from commit" -s c -l change -d 'Change how it is run: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME or WORKDIR' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from commit" -s f -l format -d 'Give it a manifest of \'oci\' (default) or \'docker\'' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from commit" -l iidfile -d 'Write the image\'s id to FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from commit" -s m -l message -d 'Put a note into the image\'s history' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from commit" -l include-volumes -d 'Say in the image where the container has volumes'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from commit" -s p -l pause -d 'Freeze the container meanwhile (default: if that is possible)'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from commit" -s q -l quiet -d 'Show nothing but the image\'s id'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from commit" -s s -l squash -d 'Make one layer of the image\'s and the container\'s'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from commit" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from cp" -s a -l archive -d 'Keep the owners of the files'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from cp" -s L -l follow-link -d 'Copy what a link leads to, if the source is one'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from cp" -l overwrite -d 'Let a file take the place of a directory and the other way round'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from cp" -s q -l quiet -d 'Don\'t say how much was copied'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from cp" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l name -d 'Name the container' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l entrypoint -d 'Replace the image\'s entrypoint: a JSON array or one word' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -s w -l workdir -d 'Working directory in the container' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -s u -l user -d 'User in the container' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -s h -l hostname -d 'Host name of the container' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -s l -l label -d 'Set a label' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l label-file -d 'Read labels from FILE, one per line' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l stop-signal -d 'Signal that stops the container' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l stop-timeout -d 'Seconds that a stop waits before it kills, -1 for ever' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l detach-keys -d 'Keys that detach from the container (default ctrl-p,ctrl-q)' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l cidfile -d 'Write the container\'s id to FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l log-driver -d 'Where output is kept: k8s-file (default) or none' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l log-opt -d 'Option of the log: max-size=SIZE, max-file=COUNT' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -s e -l env -d 'Set a variable; without a value, pass it on' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l env-file -d 'Read variables from FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l unsetenv -d 'Remove a variable of the image' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -s v -l volume -d 'Mount [SOURCE:]DIR[:OPTIONS], the source a path or a volume' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l mount -d 'Mount type=bind|volume|tmpfs|image|ramfs|devpts|glob,source=...,target=DIR[,readonly...]' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l tmpfs -d 'Mount a tmpfs at DIR[:size=SIZE,mode=MODE...]' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l shm-size -d 'Size of /dev/shm (default 64m)' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l cap-add -d 'Add a capability, or ALL' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l cap-drop -d 'Drop a capability, or ALL' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l security-opt -d 'no-new-privileges, seccomp=unconfined|FILE, mask=PATH, unmask=PATH|ALL, label=disable' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l network -d 'Network: bridge (default), none, host, container:NAME, or NAME[:ip=ADDRESS,mac=MAC,alias=NAME] (several times: on each)' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l ip -d 'Have this address on the network' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l ip6 -d 'Have this IPv6 address on the network' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l mac-address -d 'Have this hardware address on the network' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l network-alias -d 'Be found by this name on the network, too' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -s p -l publish -d 'Publish [[IP:][HOST-PORT]:]PORT[/tcp|/udp] on the host' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l add-host -d 'Add a line to /etc/hosts' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l dns -d 'Use this name server; \'none\' leaves /etc/resolv.conf alone' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l dns-search -d 'Search this domain; \'.\' for none' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l dns-option -d 'Set an option of resolv.conf' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -s m -l memory -d 'Limit memory, as in 512m or 2g' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l memory-swap -d 'Limit memory and swap together; -1 is no limit (default twice --memory)' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l memory-reservation -d 'Keep this much memory for it when memory is short' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l cpus -d 'Limit processor time, as in 1.5' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -s c -l cpu-shares -d 'Weight of its processor time beside others (default 1024)' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l cpu-period -d 'Span of time over which --cpu-quota counts (default 100000)' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l cpu-quota -d 'Processor time in each span, -1 for no limit' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l cpuset-cpus -d 'Processors that it may use, as in 0-2,5' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l cpuset-mems -d 'Memory nodes that it may use' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l pids-limit -d 'Limit processes and threads, -1 for no limit (default 2048)' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l blkio-weight -d 'Weight of its block I/O beside others, 10 to 1000' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l blkio-weight-device -d 'The same for one device' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l device-read-bps -d 'Limit reading, bytes per second, as in /dev/sda:1m' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l device-write-bps -d 'Limit writing, bytes per second' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l device-read-iops -d 'Limit reading, operations per second' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l device-write-iops -d 'Limit writing, operations per second' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l memory-swappiness -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l cpu-rt-period -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l cpu-rt-runtime -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l kernel-memory -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l cgroup-conf -d 'Set a file of its cgroup, as in memory.high=1g' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l cgroup-parent -d 'Slice or cgroup to put its cgroup below' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l cgroups -d 'Cgroup of its own: enabled (default), disabled or split' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l cgroupns -d 'Cgroup namespace: private (default) or host' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l userns -d 'User namespace: host (default), keep-id[:uid=UID,gid=GID], auto[:size=N], nomap or container:NAME' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l uidmap -d 'Map COUNT user ids from ID on; FROM 0 is you, 1 your first subordinate id' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l gidmap -d 'Map COUNT group ids from ID on' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l pid -d 'Process namespace: private (default), host or container:NAME' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l ipc -d 'IPC namespace: shareable (default), private, none, host or container:NAME' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l uts -d 'Host name\'s namespace: private (default), host or container:NAME' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l sysctl -d 'Set a kernel setting of the container\'s own namespaces' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l env-merge -d 'Set a variable; ${OTHER} in VALUE is a variable of the image' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l group-add -d 'Add a group, or keep-groups for your own ones' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l ulimit -d 'Set a resource limit; \'host\' keeps those of this shell' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l umask -d 'Umask of the container (default 0022)' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l oom-score-adj -d 'How readily the kernel kills it for memory, -1000 to 1000' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l personality -d 'Execution domain: LINUX or LINUX32' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l timeout -d 'Kill the container if it runs longer' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l systemd -d 'Prepare for systemd: true (default: if the command is an init), false or always' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l volumes-from -d 'Mount what another container mounts; options ro, rw, z' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l image-volume -d 'What the image\'s volumes are: anonymous (default), tmpfs or ignore' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l device -d 'Add a device of the host, or a folder of them' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l tz -d 'Time zone: \'local\' for this machine\'s, or a name such as Europe/Paris' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l hostuser -d 'Add a user of the host to /etc/passwd' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l passwd-entry -d 'What is added to /etc/passwd; $USERNAME, $UID, $GID, $NAME, $HOME' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l group-entry -d 'What is added to /etc/group; $GROUPNAME, $GID, $USERLIST' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l pidfile -d 'Write the pid of the container\'s first process to FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l domainname -d 'NIS domain name of the container' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l annotation -d 'Record an annotation' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l expose -d 'Record that the container listens on a port or a range' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l init-path -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l conmon-pidfile -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l pull -d 'When to ask the registry: missing (default), always, newer or never' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l platform -d 'Choose this platform of an image that has several' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l authfile -d 'Read the registry\'s credentials from FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l os -d 'Choose the image for this operating system' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l arch -d 'Choose the image for this architecture' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l variant -d 'Choose the image for this variant of the architecture' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -s i -l interactive -d 'Keep standard input open'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -s t -l tty -d 'Allocate a terminal'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l rm -d 'Remove the container when it exits'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l init -d 'Run a small init as process 1 that forwards signals and reaps processes'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l read-only -d 'Mount the container\'s root read-only'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l read-only-tmpfs -d 'With --read-only: /run, /tmp and /var/tmp are writable (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l privileged -d 'Give all the capabilities that the user namespace has, and hide nothing'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -s P -l publish-all -d 'Publish all ports that the image or --expose names, each on a port of the host that is free'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l oom-kill-disable
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l unsetenv-all -d 'Remove all variables that are not asked for'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l env-host -d 'Pass all variables of this shell on'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l http-proxy -d 'Pass the proxy variables of this shell on (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l rootfs -d 'The first argument is a folder to run instead of an image; PATH:O keeps it as it is'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l no-hosts -d 'Leave the image\'s /etc/hosts alone'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l no-hostname -d 'Leave the image\'s /etc/hostname alone'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l passwd -d 'Add the container\'s user to /etc/passwd and /etc/group (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l replace -d 'Remove a container of the same name first'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l tls-verify -d 'Require HTTPS and a valid certificate of the registry (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -s q -l quiet -d 'Show no progress while pulling'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from create" -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from diff" -l format -d 'Show it as \'json\'' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from diff" -s l -l latest -d 'The container that was made last'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from diff" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from exec" -s e -l env -d 'Set a variable; without a value, pass it on' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from exec" -l env-file -d 'Read variables from FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from exec" -s u -l user -d 'User in the container' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from exec" -s w -l workdir -d 'Working directory in the container' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from exec" -l detach-keys -d 'Keys that detach from the command (default ctrl-p,ctrl-q)' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from exec" -l preserve-fds -d 'Hand on so many open descriptors, from number 3 on' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from exec" -l preserve-fd -d 'Hand on these open descriptors' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from exec" -l cidfile -d 'The container whose id is in FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from exec" -s d -l detach -d 'Don\'t wait for the command'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from exec" -s i -l interactive -d 'Keep standard input open'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from exec" -s t -l tty -d 'Allocate a terminal'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from exec" -l privileged -d 'Give all the capabilities that the user namespace has'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from exec" -s l -l latest -d 'The container that was made last'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from exec" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from exists" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from export" -s o -l output -d 'Write to FILE, not to standard output' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from export" -s l -l latest -d 'The container that was made last'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from export" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from inspect" -s f -l format -d 'Show each by a template, or as \'json\'' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from inspect" -s s -l size -d 'Show the sizes of containers too'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from inspect" -s l -l latest -d 'The container that was made last'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from inspect" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from kill" -s s -l signal -d 'The signal (default KILL)' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from kill" -l cidfile -d 'The container whose id is in FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from kill" -s a -l all -d 'Signal all running containers'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from kill" -s l -l latest -d 'The container that was made last'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from kill" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from logs" -s n -l tail -d 'Show only so many lines from the end (default all)' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from logs" -l since -d 'Show what is newer than a time in UTC or a span, as in 10m' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from logs" -l until -d 'Show what is older than a time in UTC or a span, as in 10m' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from logs" -s f -l follow -d 'Go on with what is still to come'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from logs" -s t -l timestamps -d 'Show each line\'s time'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from logs" -l names -d 'With several containers: begin each line with the name, not the id'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from logs" -l color -d 'With several containers: show each in a colour of its own'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from logs" -s l -l latest -d 'The container that was made last'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from logs" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from pause" -s a -l all -d 'Freeze all running containers'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from pause" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from port" -s a -l all -d 'Show the ports of all containers'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from port" -s l -l latest -d 'The container that was made last'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from port" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from prune" -l filter -d 'Remove only: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from prune" -s f -l force -d 'Don\'t ask first'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from prune" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from ls" -s n -l last -d 'Show the newest containers only, in any state' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from ls" -s f -l filter -d 'Show only: id=, name=, label=, status=, exited=, ancestor=, before=, since=, volume=, network=, until=' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from ls" -l format -d 'Show each by a template, or as \'json\', or \'table TEMPLATE\'' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from ls" -l sort -d 'Sort by created, command, id, image, names, size or status' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from ls" -s a -l all -d 'Show stopped containers too'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from ls" -s l -l latest -d 'Show the newest container only, in any state'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from ls" -s q -l quiet -d 'Show ids only'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from ls" -l no-trunc -d 'Show ids and commands in full'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from ls" -s s -l size -d 'Show the size of what each container has written'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from ls" -l noheading -d 'Leave out the column heads'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from list" -s n -l last -d 'Show the newest containers only, in any state' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from list" -s f -l filter -d 'Show only: id=, name=, label=, status=, exited=, ancestor=, before=, since=, volume=, network=, until=' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from list" -l format -d 'Show each by a template, or as \'json\', or \'table TEMPLATE\'' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from list" -l sort -d 'Sort by created, command, id, image, names, size or status' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from list" -s a -l all -d 'Show stopped containers too'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from list" -s l -l latest -d 'Show the newest container only, in any state'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Show ids only'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from list" -l no-trunc -d 'Show ids and commands in full'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from list" -s s -l size -d 'Show the size of what each container has written'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from list" -l noheading -d 'Leave out the column heads'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from list" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from ps" -s n -l last -d 'Show the newest containers only, in any state' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from ps" -s f -l filter -d 'Show only: id=, name=, label=, status=, exited=, ancestor=, before=, since=, volume=, network=, until=' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from ps" -l format -d 'Show each by a template, or as \'json\', or \'table TEMPLATE\'' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from ps" -l sort -d 'Sort by created, command, id, image, names, size or status' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from ps" -s a -l all -d 'Show stopped containers too'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from ps" -s l -l latest -d 'Show the newest container only, in any state'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from ps" -s q -l quiet -d 'Show ids only'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from ps" -l no-trunc -d 'Show ids and commands in full'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from ps" -s s -l size -d 'Show the size of what each container has written'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from ps" -l noheading -d 'Leave out the column heads'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from ps" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from rename" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from restart" -s t -l time -d 'Seconds to wait before the container is killed (default 10), -1 for ever' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from restart" -s s -l signal -d 'Ask with this signal (default the container\'s own)' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from restart" -l cidfile -d 'The container whose id is in FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from restart" -s f -l filter -d 'The containers that pass, as \'coracle ps --filter\' has them' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from restart" -s a -l all -d 'Restart all containers'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from restart" -l running -d 'Restart all running containers'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from restart" -s l -l latest -d 'The container that was made last'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from restart" -s i -l ignore -d 'A container that is not there is no error'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from restart" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from rm" -l cidfile -d 'The container whose id is in FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from rm" -l filter -d 'The containers that pass, as \'coracle ps --filter\' has them' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from rm" -s t -l time -d 'With --force: seconds to wait before the container is killed, -1 for ever' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from rm" -s f -l force -d 'Stop and remove running containers too'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from rm" -s v -l volumes -d 'Remove the containers\' anonymous volumes too'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from rm" -s a -l all -d 'Remove all containers'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from rm" -s l -l latest -d 'The container that was made last'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from rm" -s i -l ignore -d 'A container that is not there is no error'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from rm" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from remove" -l cidfile -d 'The container whose id is in FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from remove" -l filter -d 'The containers that pass, as \'coracle ps --filter\' has them' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from remove" -s t -l time -d 'With --force: seconds to wait before the container is killed, -1 for ever' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from remove" -s f -l force -d 'Stop and remove running containers too'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from remove" -s v -l volumes -d 'Remove the containers\' anonymous volumes too'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from remove" -s a -l all -d 'Remove all containers'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from remove" -s l -l latest -d 'The container that was made last'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from remove" -s i -l ignore -d 'A container that is not there is no error'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from remove" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -s a -l attach -d 'Connect only stdin, stdout or stderr' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l preserve-fds -d 'Pass N descriptors from 3 on to the container' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l preserve-fd -d 'Pass these open descriptors to the container' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l name -d 'Name the container' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l entrypoint -d 'Replace the image\'s entrypoint: a JSON array or one word' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -s w -l workdir -d 'Working directory in the container' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -s u -l user -d 'User in the container' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -s h -l hostname -d 'Host name of the container' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -s l -l label -d 'Set a label' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l label-file -d 'Read labels from FILE, one per line' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l stop-signal -d 'Signal that stops the container' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l stop-timeout -d 'Seconds that a stop waits before it kills, -1 for ever' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l detach-keys -d 'Keys that detach from the container (default ctrl-p,ctrl-q)' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l cidfile -d 'Write the container\'s id to FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l log-driver -d 'Where output is kept: k8s-file (default) or none' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l log-opt -d 'Option of the log: max-size=SIZE, max-file=COUNT' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -s e -l env -d 'Set a variable; without a value, pass it on' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l env-file -d 'Read variables from FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l unsetenv -d 'Remove a variable of the image' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -s v -l volume -d 'Mount [SOURCE:]DIR[:OPTIONS], the source a path or a volume' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l mount -d 'Mount type=bind|volume|tmpfs|image|ramfs|devpts|glob,source=...,target=DIR[,readonly...]' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l tmpfs -d 'Mount a tmpfs at DIR[:size=SIZE,mode=MODE...]' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l shm-size -d 'Size of /dev/shm (default 64m)' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l cap-add -d 'Add a capability, or ALL' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l cap-drop -d 'Drop a capability, or ALL' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l security-opt -d 'no-new-privileges, seccomp=unconfined|FILE, mask=PATH, unmask=PATH|ALL, label=disable' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l network -d 'Network: bridge (default), none, host, container:NAME, or NAME[:ip=ADDRESS,mac=MAC,alias=NAME] (several times: on each)' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l ip -d 'Have this address on the network' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l ip6 -d 'Have this IPv6 address on the network' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l mac-address -d 'Have this hardware address on the network' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l network-alias -d 'Be found by this name on the network, too' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -s p -l publish -d 'Publish [[IP:][HOST-PORT]:]PORT[/tcp|/udp] on the host' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l add-host -d 'Add a line to /etc/hosts' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l dns -d 'Use this name server; \'none\' leaves /etc/resolv.conf alone' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l dns-search -d 'Search this domain; \'.\' for none' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l dns-option -d 'Set an option of resolv.conf' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -s m -l memory -d 'Limit memory, as in 512m or 2g' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l memory-swap -d 'Limit memory and swap together; -1 is no limit (default twice --memory)' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l memory-reservation -d 'Keep this much memory for it when memory is short' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l cpus -d 'Limit processor time, as in 1.5' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -s c -l cpu-shares -d 'Weight of its processor time beside others (default 1024)' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l cpu-period -d 'Span of time over which --cpu-quota counts (default 100000)' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l cpu-quota -d 'Processor time in each span, -1 for no limit' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l cpuset-cpus -d 'Processors that it may use, as in 0-2,5' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l cpuset-mems -d 'Memory nodes that it may use' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l pids-limit -d 'Limit processes and threads, -1 for no limit (default 2048)' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l blkio-weight -d 'Weight of its block I/O beside others, 10 to 1000' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l blkio-weight-device -d 'The same for one device' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l device-read-bps -d 'Limit reading, bytes per second, as in /dev/sda:1m' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l device-write-bps -d 'Limit writing, bytes per second' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l device-read-iops -d 'Limit reading, operations per second' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l device-write-iops -d 'Limit writing, operations per second' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l memory-swappiness -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l cpu-rt-period -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l cpu-rt-runtime -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l kernel-memory -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l cgroup-conf -d 'Set a file of its cgroup, as in memory.high=1g' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l cgroup-parent -d 'Slice or cgroup to put its cgroup below' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l cgroups -d 'Cgroup of its own: enabled (default), disabled or split' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l cgroupns -d 'Cgroup namespace: private (default) or host' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l userns -d 'User namespace: host (default), keep-id[:uid=UID,gid=GID], auto[:size=N], nomap or container:NAME' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l uidmap -d 'Map COUNT user ids from ID on; FROM 0 is you, 1 your first subordinate id' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l gidmap -d 'Map COUNT group ids from ID on' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l pid -d 'Process namespace: private (default), host or container:NAME' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l ipc -d 'IPC namespace: shareable (default), private, none, host or container:NAME' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l uts -d 'Host name\'s namespace: private (default), host or container:NAME' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l sysctl -d 'Set a kernel setting of the container\'s own namespaces' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l env-merge -d 'Set a variable; ${OTHER} in VALUE is a variable of the image' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l group-add -d 'Add a group, or keep-groups for your own ones' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l ulimit -d 'Set a resource limit; \'host\' keeps those of this shell' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l umask -d 'Umask of the container (default 0022)' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l oom-score-adj -d 'How readily the kernel kills it for memory, -1000 to 1000' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l personality -d 'Execution domain: LINUX or LINUX32' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l timeout -d 'Kill the container if it runs longer' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l systemd -d 'Prepare for systemd: true (default: if the command is an init), false or always' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l volumes-from -d 'Mount what another container mounts; options ro, rw, z' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l image-volume -d 'What the image\'s volumes are: anonymous (default), tmpfs or ignore' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l device -d 'Add a device of the host, or a folder of them' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l tz -d 'Time zone: \'local\' for this machine\'s, or a name such as Europe/Paris' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l hostuser -d 'Add a user of the host to /etc/passwd' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l passwd-entry -d 'What is added to /etc/passwd; $USERNAME, $UID, $GID, $NAME, $HOME' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l group-entry -d 'What is added to /etc/group; $GROUPNAME, $GID, $USERLIST' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l pidfile -d 'Write the pid of the container\'s first process to FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l domainname -d 'NIS domain name of the container' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l annotation -d 'Record an annotation' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l expose -d 'Record that the container listens on a port or a range' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l init-path -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l conmon-pidfile -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l pull -d 'When to ask the registry: missing (default), always, newer or never' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l platform -d 'Choose this platform of an image that has several' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l authfile -d 'Read the registry\'s credentials from FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l os -d 'Choose the image for this operating system' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l arch -d 'Choose the image for this architecture' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l variant -d 'Choose the image for this variant of the architecture' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -s d -l detach -d 'Run in the background and print the container\'s id'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l rmi -d 'Remove the image too when the container exits; implies --rm'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l sig-proxy -d 'Pass signals on to the container (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -s i -l interactive -d 'Keep standard input open'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -s t -l tty -d 'Allocate a terminal'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l rm -d 'Remove the container when it exits'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l init -d 'Run a small init as process 1 that forwards signals and reaps processes'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l read-only -d 'Mount the container\'s root read-only'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l read-only-tmpfs -d 'With --read-only: /run, /tmp and /var/tmp are writable (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l privileged -d 'Give all the capabilities that the user namespace has, and hide nothing'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -s P -l publish-all -d 'Publish all ports that the image or --expose names, each on a port of the host that is free'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l oom-kill-disable
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l unsetenv-all -d 'Remove all variables that are not asked for'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l env-host -d 'Pass all variables of this shell on'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l http-proxy -d 'Pass the proxy variables of this shell on (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l rootfs -d 'The first argument is a folder to run instead of an image; PATH:O keeps it as it is'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l no-hosts -d 'Leave the image\'s /etc/hosts alone'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l no-hostname -d 'Leave the image\'s /etc/hostname alone'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l passwd -d 'Add the container\'s user to /etc/passwd and /etc/group (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l replace -d 'Remove a container of the same name first'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l tls-verify -d 'Require HTTPS and a valid certificate of the registry (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -s q -l quiet -d 'Show no progress while pulling'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from run" -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from start" -l detach-keys -d 'Keys that detach from the container (default ctrl-p,ctrl-q)' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from start" -s f -l filter -d 'The containers that pass, as \'coracle ps --filter\' has them' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from start" -s a -l attach -d 'Show the container\'s output and take its exit code'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from start" -s i -l interactive -d 'Pass standard input on to the container'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from start" -l sig-proxy -d 'Pass signals on to the container (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from start" -l all -d 'Start all containers that do not run'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from start" -s l -l latest -d 'The container that was made last'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from start" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from stats" -s i -l interval -d 'Seconds between two looks (default 1)' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from stats" -l format -d 'Show each by a template, or as \'json\', or \'table TEMPLATE\'' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from stats" -s a -l all -d 'Show stopped containers too'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from stats" -l no-stream -d 'Show it once, not again and again'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from stats" -l no-reset -d 'Don\'t clear the screen between two looks'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from stats" -l no-trunc -d 'Show ids in full'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from stats" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from stop" -s t -l time -d 'Seconds to wait before the container is killed (default 10), -1 for ever' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from stop" -s s -l signal -d 'Ask with this signal (default the container\'s own)' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from stop" -l cidfile -d 'The container whose id is in FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from stop" -s f -l filter -d 'The containers that pass, as \'coracle ps --filter\' has them' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from stop" -s a -l all -d 'Stop all running containers'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from stop" -s l -l latest -d 'The container that was made last'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from stop" -s i -l ignore -d 'A container that is not there is no error'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from stop" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from top" -s l -l latest -d 'The container that was made last'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from top" -l list-descriptors
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from top" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from unpause" -s a -l all -d 'Let all paused containers go on'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from unpause" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from update" -s m -l memory -d 'Limit memory, as in 512m or 2g' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from update" -l memory-swap -d 'Limit memory and swap together; -1 is no limit (default twice --memory)' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from update" -l memory-reservation -d 'Keep this much memory for it when memory is short' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from update" -l cpus -d 'Limit processor time, as in 1.5' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from update" -s c -l cpu-shares -d 'Weight of its processor time beside others (default 1024)' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from update" -l cpu-period -d 'Span of time over which --cpu-quota counts (default 100000)' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from update" -l cpu-quota -d 'Processor time in each span, -1 for no limit' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from update" -l cpuset-cpus -d 'Processors that it may use, as in 0-2,5' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from update" -l cpuset-mems -d 'Memory nodes that it may use' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from update" -l pids-limit -d 'Limit processes and threads, -1 for no limit (default 2048)' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from update" -l blkio-weight -d 'Weight of its block I/O beside others, 10 to 1000' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from update" -l blkio-weight-device -d 'The same for one device' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from update" -l device-read-bps -d 'Limit reading, bytes per second, as in /dev/sda:1m' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from update" -l device-write-bps -d 'Limit writing, bytes per second' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from update" -l device-read-iops -d 'Limit reading, operations per second' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from update" -l device-write-iops -d 'Limit writing, operations per second' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from update" -l memory-swappiness -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from update" -l cpu-rt-period -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from update" -l cpu-rt-runtime -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from update" -l kernel-memory -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from update" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from wait" -l condition -d 'What to wait for: stopped (default), exited, created, running, paused or removing' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from wait" -s i -l interval -d 'Time between two looks for other states than stopped (default 250ms)' -r
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from wait" -l ignore -d 'A container that is not there is no error'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from wait" -s l -l latest -d 'The container that was made last'
complete -c coracle -n "__fish_coracle_using_subcommand container; and __fish_seen_subcommand_from wait" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand image; and not __fish_seen_subcommand_from build exists history import inspect load ls list prune pull push rm remove save tag tree untag" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand image; and not __fish_seen_subcommand_from build exists history import inspect load ls list prune pull push rm remove save tag tree untag" -f -a "build" -d 'Build an image from a Dockerfile'
complete -c coracle -n "__fish_coracle_using_subcommand image; and not __fish_seen_subcommand_from build exists history import inspect load ls list prune pull push rm remove save tag tree untag" -f -a "exists" -d 'Ask whether an image is here: the exit code is 0 if it is, 1 if not'
complete -c coracle -n "__fish_coracle_using_subcommand image; and not __fish_seen_subcommand_from build exists history import inspect load ls list prune pull push rm remove save tag tree untag" -f -a "history" -d 'Show how an image was made'
complete -c coracle -n "__fish_coracle_using_subcommand image; and not __fish_seen_subcommand_from build exists history import inspect load ls list prune pull push rm remove save tag tree untag" -f -a "import" -d 'Make an image of a tar archive of a file system'
complete -c coracle -n "__fish_coracle_using_subcommand image; and not __fish_seen_subcommand_from build exists history import inspect load ls list prune pull push rm remove save tag tree untag" -f -a "inspect" -d 'Show all there is to know about images'
complete -c coracle -n "__fish_coracle_using_subcommand image; and not __fish_seen_subcommand_from build exists history import inspect load ls list prune pull push rm remove save tag tree untag" -f -a "load" -d 'Get images from an archive that docker, podman or coracle saved'
complete -c coracle -n "__fish_coracle_using_subcommand image; and not __fish_seen_subcommand_from build exists history import inspect load ls list prune pull push rm remove save tag tree untag" -f -a "ls" -d 'List images'
complete -c coracle -n "__fish_coracle_using_subcommand image; and not __fish_seen_subcommand_from build exists history import inspect load ls list prune pull push rm remove save tag tree untag" -f -a "list" -d 'List images'
complete -c coracle -n "__fish_coracle_using_subcommand image; and not __fish_seen_subcommand_from build exists history import inspect load ls list prune pull push rm remove save tag tree untag" -f -a "prune" -d 'Remove images without a name, or all that no container uses'
complete -c coracle -n "__fish_coracle_using_subcommand image; and not __fish_seen_subcommand_from build exists history import inspect load ls list prune pull push rm remove save tag tree untag" -f -a "pull" -d 'Get images from a registry'
complete -c coracle -n "__fish_coracle_using_subcommand image; and not __fish_seen_subcommand_from build exists history import inspect load ls list prune pull push rm remove save tag tree untag" -f -a "push" -d 'Send an image to a registry'
complete -c coracle -n "__fish_coracle_using_subcommand image; and not __fish_seen_subcommand_from build exists history import inspect load ls list prune pull push rm remove save tag tree untag" -f -a "rm" -d 'Remove images'
complete -c coracle -n "__fish_coracle_using_subcommand image; and not __fish_seen_subcommand_from build exists history import inspect load ls list prune pull push rm remove save tag tree untag" -f -a "remove" -d 'Remove images'
complete -c coracle -n "__fish_coracle_using_subcommand image; and not __fish_seen_subcommand_from build exists history import inspect load ls list prune pull push rm remove save tag tree untag" -f -a "save" -d 'Save images to an archive or a folder, for docker, podman, skopeo or coracle to load'
complete -c coracle -n "__fish_coracle_using_subcommand image; and not __fish_seen_subcommand_from build exists history import inspect load ls list prune pull push rm remove save tag tree untag" -f -a "tag" -d 'Give an image further names'
complete -c coracle -n "__fish_coracle_using_subcommand image; and not __fish_seen_subcommand_from build exists history import inspect load ls list prune pull push rm remove save tag tree untag" -f -a "tree" -d 'Show the layers of an image, what made each, and which other images have it'
complete -c coracle -n "__fish_coracle_using_subcommand image; and not __fish_seen_subcommand_from build exists history import inspect load ls list prune pull push rm remove save tag tree untag" -f -a "untag" -d 'Take names from an image'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l annotation -d 'Set an annotation of the image\'s manifest' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l format -d 'Give the image a manifest of \'oci\' (default) or \'docker\'' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l iidfile -d 'Write the image\'s id to FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l env -d 'Set a variable of the image, which no step sees; without a value, pass it on' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l label -d 'Set a label of the image' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l metadata-file -d 'Write what was made to FILE, as JSON with BuildKit\'s keys' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -s o -l output -d 'Bring the result to a folder (FOLDER), as a tar archive to standard output (\'-\'), or where type=image, oci, docker, tar, local, registry or cacheonly says, with dest=, name=, push= and more' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l source-date-epoch -d 'Let the image say that it was made then (default: $SOURCE_DATE_EPOCH)' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -s t -l tag -d 'Name the image' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l timestamp -d 'Let the image say that it was made then, and all files of new layers' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l unsetenv -d 'Take a variable out of the image\'s environment' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l unsetlabel -d 'Take a label of the base image away' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l cache-from -d 'Take what steps made elsewhere from NAME in a registry, or type=registry,ref=NAME or type=local,src=FOLDER' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l cache-to -d 'Keep what steps made for builds elsewhere: NAME in a registry, type=registry,ref=NAME, type=local,dest=FOLDER (each with mode=min or max), or type=inline' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l call -d 'What to do: build (default), check, outline (tell what the target can be given) or targets; outline,format=json' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l build-arg -d 'Set a variable that the Dockerfile declares with ARG' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l build-context -d 'Let FROM and --from find this under NAME: a folder, docker-image://IMAGE, oci-layout://FOLDER[:TAG][@DIGEST], a git repository, a URL' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -s f -l file -d 'Read the Dockerfile from FILE (default: FOLDER/Dockerfile)' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l from -d 'Let the first FROM of the Dockerfile name IMAGE' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l ignorefile -d 'Read what is left out of the context from FILE, not from .dockerignore' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l jobs -d 'Build so many stages at the same time (default: one per processor)' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l manifest -d 'Add the image to a list, which is made if it is not there' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l no-cache-filter -d 'Carry out every step of this stage' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l platform -d 'Choose this platform of images that have several' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l progress -d 'Show the build as auto, plain (lines), tty (live), json (also rawjson) or quiet (also none)' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l target -d 'Build this stage of the Dockerfile, not the last one' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l os -d 'Choose the image for this operating system' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l arch -d 'Choose the image for this architecture' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l variant -d 'Choose the image for this variant of the architecture' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l authfile -d 'Read the registry\'s credentials from FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l cert-dir -d 'Trust the certificates in DIR too' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l creds -d 'Log in to the registry so' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l retry -d 'Make a failed request again so often (default 3)' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l retry-delay -d 'Wait so long before the first time, longer each time (default 1s)' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l shm-size -d 'Size of /dev/shm (default 64m)' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l cap-add -d 'Add a capability, or ALL' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l cap-drop -d 'Drop a capability, or ALL' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l security-opt -d 'no-new-privileges, seccomp=unconfined|FILE, mask=PATH, unmask=PATH|ALL, label=disable' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l network -d 'Network: bridge (default), none, host, container:NAME, or NAME[:ip=ADDRESS,mac=MAC,alias=NAME] (several times: on each)' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l add-host -d 'Add a line to /etc/hosts' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l dns -d 'Use this name server; \'none\' leaves /etc/resolv.conf alone' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l dns-search -d 'Search this domain; \'.\' for none' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l dns-option -d 'Set an option of resolv.conf' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -s m -l memory -d 'Limit memory, as in 512m or 2g' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l memory-swap -d 'Limit memory and swap together; -1 is no limit (default twice --memory)' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -s c -l cpu-shares -d 'Weight of its processor time beside others (default 1024)' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l cpu-period -d 'Span of time over which --cpu-quota counts (default 100000)' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l cpu-quota -d 'Processor time in each span, -1 for no limit' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l cpuset-cpus -d 'Processors that it may use, as in 0-2,5' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l cpuset-mems -d 'Memory nodes that it may use' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l cgroup-parent -d 'Slice or cgroup to put its cgroup below' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l cgroupns -d 'Cgroup namespace: private (default) or host' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l userns -d 'User namespace: host (the user\'s, which the image\'s files belong to)' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l pid -d 'Process namespace: private (default) or host' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l ipc -d 'IPC namespace: private (default), none or host' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l uts -d 'Host name\'s namespace: private (default) or host' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l group-add -d 'Add a group, or keep-groups for your own ones' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l ulimit -d 'Set a resource limit; \'host\' keeps those of this shell' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l device -d 'Add a device of the host, or a folder of them' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l allow -d 'Let RUN use what it may not by itself: network.host' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l secret -d 'A secret for RUN --mount=type=secret' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l ssh -d 'An SSH agent for RUN --mount=type=ssh (default $SSH_AUTH_SOCK)' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -s v -l volume -d 'Mount a file or folder of this machine into each RUN; the cache does not see what changes in it' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l attest -d 'Make no attestation, which is never done' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l builder -d 'Use the builder \'default\', the only one that there is' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l isolation -d 'Isolate steps as containers, which is always done: default, oci or rootless' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l provenance -d 'Make no attestation of the provenance, which is never done' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l sbom -d 'Make no attestation of what is in the image, which is never done' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l unsetannotation -d 'Take no annotation of this name from the base image, as is done with all' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l identity-label -d 'Say in a label which version of coracle built it'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l load -d 'Keep the image in the store, which is done anyway unless --output says otherwise'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l omit-history -d 'Leave the steps out of the image\'s config'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l push -d 'Send the image to the registry of each of its names'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l rewrite-timestamp -d 'Let no file of a new layer be later than --source-date-epoch'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l squash -d 'Make one layer of all that the build makes'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l squash-all -d 'Make one layer of these and the base image\'s'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l check -d 'Tell what is unwise in the Dockerfile, and build nothing: --call check'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l http-proxy -d 'Pass the proxy variables of this shell on to RUN, as --build-arg does (default false)'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l no-cache -d 'Carry out every step, or every step of STAGE, whatever earlier builds have made'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l pull -d 'Ask the registry for newer base images'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -s q -l quiet -d 'Show nothing but the image\'s id'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l tls-verify -d 'Require HTTPS and a valid certificate of the registry (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l no-hosts -d 'Leave the image\'s /etc/hosts alone'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l no-hostname -d 'Leave the image\'s /etc/hostname alone'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l shell-on-failure -d 'Open a shell in the state in which a failed RUN has left its files'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l compress -d 'Compress the context on its way to a daemon: there is none, so nothing is sent'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l disable-content-trust -d 'Check no signatures, which is never done (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l force-rm -d 'Remove the containers of steps also if the build fails, which is always done'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l layers -d 'Keep a layer of each step (default true); with false, carry out every step and make one layer of all'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -l rm -d 'Remove the containers of steps, which is always done'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from build" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from exists" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from history" -l format -d 'Show each by a template, or as \'json\', or \'table TEMPLATE\'' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from history" -s H -l human -d 'Show times and sizes for people (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from history" -s q -l quiet -d 'Show ids only'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from history" -l no-trunc -d 'Show everything in full'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from history" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from import" -s c -l change -d 'Change how it is run: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME or WORKDIR' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from import" -s m -l message -d 'Put a note into the image\'s history' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from import" -l platform -d 'Say that the image is for this platform' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from import" -l os -d 'Say that the image is for this operating system' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from import" -l arch -d 'Say that the image is for this architecture' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from import" -l variant -d 'Say that the image is for this variant of the architecture' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from import" -l tls-verify -d 'Require a valid certificate of an https server (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from import" -s q -l quiet -d 'Show no progress'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from import" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from inspect" -s f -l format -d 'Show each by a template, or as \'json\'' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from inspect" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from load" -s i -l input -d 'Read FILE, not standard input' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from load" -s q -l quiet -d 'Show no progress'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from load" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from ls" -s f -l filter -d 'Show only: reference=PATTERN, dangling=BOOL, label=KEY[=VALUE], before=IMAGE, since=IMAGE, until=TIME, id=ID, containers=BOOL' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from ls" -l format -d 'Show each by a template, or as \'json\', or \'table TEMPLATE\'' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from ls" -l sort -d 'Sort by created (default), id, repository, size or tag' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from ls" -s a -l all -d 'Show intermediate images too; there are none, so this changes nothing'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from ls" -l digests -d 'Show digests'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from ls" -s q -l quiet -d 'Show ids only'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from ls" -l no-trunc -d 'Show ids in full'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from ls" -s n -l noheading -d 'Leave out the column heads'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from list" -s f -l filter -d 'Show only: reference=PATTERN, dangling=BOOL, label=KEY[=VALUE], before=IMAGE, since=IMAGE, until=TIME, id=ID, containers=BOOL' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from list" -l format -d 'Show each by a template, or as \'json\', or \'table TEMPLATE\'' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from list" -l sort -d 'Sort by created (default), id, repository, size or tag' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from list" -s a -l all -d 'Show intermediate images too; there are none, so this changes nothing'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from list" -l digests -d 'Show digests'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Show ids only'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from list" -l no-trunc -d 'Show ids in full'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from list" -s n -l noheading -d 'Leave out the column heads'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from list" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from prune" -l filter -d 'Remove only: until=TIME (made before), label=KEY[=VALUE], label!=KEY[=VALUE]' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from prune" -s a -l all -d 'Remove all images that no container uses, not only those without a name'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from prune" -l build-cache -d 'Remove what RUN --mount=type=cache keeps for later builds too'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from prune" -s f -l force -d 'Don\'t ask first'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from prune" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from pull" -l policy -d 'When to ask the registry: missing (default), always, newer or never' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from pull" -l platform -d 'Choose this platform of an image that has several' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from pull" -l authfile -d 'Read the registry\'s credentials from FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from pull" -l creds -d 'Log in to the registry so' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from pull" -l cert-dir -d 'Trust the certificates in DIR too' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from pull" -l os -d 'Choose the image for this operating system' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from pull" -l arch -d 'Choose the image for this architecture' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from pull" -l variant -d 'Choose the image for this variant of the architecture' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from pull" -l retry -d 'Make a failed request again so often (default 3)' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from pull" -l retry-delay -d 'Wait so long before the first time, longer each time (default 1s)' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from pull" -l tls-verify -d 'Require HTTPS and a valid certificate of the registry (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from pull" -s q -l quiet -d 'Show no progress while pulling'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from pull" -s a -l all-tags -d 'Get all tags of the repository'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from pull" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from push" -l authfile -d 'Read the registry\'s credentials from FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from push" -l cert-dir -d 'Trust the certificates in DIR too' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from push" -l creds -d 'Log in to the registry so' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from push" -l digestfile -d 'Write the digest of what is in the registry then to FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from push" -l compression-format -d 'Compress layers with gzip (default) or zstd' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from push" -l compression-level -d 'Compress so hard: 1 to 9 for gzip (default 6), 1 to 20 for zstd (default 3)' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from push" -s f -l format -d 'The form of the manifest: oci (v2s1) or docker (v2s2); default is the image\'s own, or oci' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from push" -l retry -d 'Make a failed request again so often (default 3)' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from push" -l retry-delay -d 'Wait so long before the first time, longer each time (default 1s)' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from push" -l tls-verify -d 'Require HTTPS and a valid certificate of the registry (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from push" -s a -l all-tags -d 'Send all tags of the repository'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from push" -s q -l quiet -d 'Show no progress, only the name'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from push" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from rm" -s f -l force -d 'Remove all names of an image, and images of stopped containers'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from rm" -s a -l all -d 'Remove all images'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from rm" -s i -l ignore -d 'An image that is not there is no error'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from rm" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from remove" -s f -l force -d 'Remove all names of an image, and images of stopped containers'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from remove" -s a -l all -d 'Remove all images'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from remove" -s i -l ignore -d 'An image that is not there is no error'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from remove" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from save" -s o -l output -d 'Write FILE, not standard output' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from save" -l format -d 'docker-archive (default), oci-archive, oci-dir or docker-dir (skopeo\'s dir)' -r
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from save" -l compress -d 'Compress layers with gzip; for docker-dir'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from save" -l uncompressed -d 'Do not compress layers, which is what is done anyway'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from save" -s m -l multi-image-archive -d 'Take all arguments for images, which is what is done anyway'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from save" -s q -l quiet -d 'Show no progress'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from save" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from tag" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from tree" -l whatrequires -d 'Show the images that are built upon this one'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from tree" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand image; and __fish_seen_subcommand_from untag" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and not __fish_seen_subcommand_from add annotate create exists inspect push remove rm" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and not __fish_seen_subcommand_from add annotate create exists inspect push remove rm" -f -a "add" -d 'Add images to a list, or an artifact made of files'
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and not __fish_seen_subcommand_from add annotate create exists inspect push remove rm" -f -a "annotate" -d 'Change what a list says of one of its images, or of itself'
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and not __fish_seen_subcommand_from add annotate create exists inspect push remove rm" -f -a "create" -d 'Make a list, of these images if any are named'
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and not __fish_seen_subcommand_from add annotate create exists inspect push remove rm" -f -a "exists" -d 'Ask whether a list is here: the exit code is 0 if it is, 1 if not'
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and not __fish_seen_subcommand_from add annotate create exists inspect push remove rm" -f -a "inspect" -d 'Show a list of the store, or what a registry has under a name'
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and not __fish_seen_subcommand_from add annotate create exists inspect push remove rm" -f -a "push" -d 'Send a list and its images to a registry'
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and not __fish_seen_subcommand_from add annotate create exists inspect push remove rm" -f -a "remove" -d 'Take an image out of a list'
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and not __fish_seen_subcommand_from add annotate create exists inspect push remove rm" -f -a "rm" -d 'Remove lists; their images stay'
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from add" -l authfile -d 'Read the registry\'s credentials from FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from add" -l cert-dir -d 'Trust the certificates in DIR too' -r
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from add" -l creds -d 'Log in to the registry so' -r
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from add" -l annotation -d 'Set an annotation of the image in the list' -r
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from add" -l arch -d 'Say that the image is for this architecture' -r
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from add" -l features -d 'Say that it needs these features of the processor' -r
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from add" -l os -d 'Say that it is for this operating system' -r
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from add" -l os-features -d 'Say that it needs these features of the operating system' -r
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from add" -l os-version -d 'Say that it is for this version of the operating system' -r
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from add" -l variant -d 'Say that it is for this variant of the architecture' -r
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from add" -l artifact-annotation -d 'Set an annotation of the artifact\'s manifest' -r
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from add" -l artifact-config -d 'Give the artifact this file as its configuration (default: an empty one)' -r
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from add" -l artifact-config-type -d 'Say that its configuration is of this media type' -r
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from add" -l artifact-layer-type -d 'Say that the files are of this media type (default: what their names or contents look like)' -r
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from add" -l artifact-subject -d 'Say that the artifact is about this image' -r
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from add" -l artifact-type -d 'Say that the artifact is of this type' -r
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from add" -l tls-verify -d 'Require HTTPS and a valid certificate of the registry (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from add" -l all -d 'Of an image that is a list, add all, not only that for this machine'
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from add" -l artifact -d 'Add files as one artifact: what follows LIST is files, read again by \'manifest push\''
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from add" -l artifact-exclude-titles -d 'Do not tell the files\' names'
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from add" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from annotate" -l annotation -d 'Set an annotation of the image in the list' -r
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from annotate" -l arch -d 'Say that the image is for this architecture' -r
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from annotate" -l features -d 'Say that it needs these features of the processor' -r
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from annotate" -l os -d 'Say that it is for this operating system' -r
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from annotate" -l os-features -d 'Say that it needs these features of the operating system' -r
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from annotate" -l os-version -d 'Say that it is for this version of the operating system' -r
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from annotate" -l variant -d 'Say that it is for this variant of the architecture' -r
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from annotate" -l index -d 'Set annotations of the list itself, and name no image'
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from annotate" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from create" -l authfile -d 'Read the registry\'s credentials from FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from create" -l cert-dir -d 'Trust the certificates in DIR too' -r
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from create" -l creds -d 'Log in to the registry so' -r
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from create" -l annotation -d 'Set an annotation of the list' -r
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from create" -l tls-verify -d 'Require HTTPS and a valid certificate of the registry (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from create" -l all -d 'Of images that are lists, add all, not only that for this machine'
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from create" -s a -l amend -d 'If there is such a list, add to it'
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from create" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from exists" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from inspect" -l authfile -d 'Read the registry\'s credentials from FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from inspect" -l cert-dir -d 'Trust the certificates in DIR too' -r
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from inspect" -l creds -d 'Log in to the registry so' -r
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from inspect" -l tls-verify -d 'Require HTTPS and a valid certificate of the registry (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from inspect" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from push" -l authfile -d 'Read the registry\'s credentials from FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from push" -l cert-dir -d 'Trust the certificates in DIR too' -r
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from push" -l creds -d 'Log in to the registry so' -r
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from push" -l compression-format -d 'Compress layers with gzip (default) or zstd' -r
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from push" -l compression-level -d 'Compress so hard: 1 to 9 for gzip, 1 to 20 for zstd' -r
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from push" -l digestfile -d 'Write the digest of what is in the registry then to FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from push" -s f -l format -d 'The form of the list: oci (default) or v2s2 (docker\'s)' -r
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from push" -l tls-verify -d 'Require HTTPS and a valid certificate of the registry (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from push" -l all -d 'Send the images too (default true); with --all=false the registry must have them'
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from push" -s p -l purge -d 'Remove the list here afterwards'
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from push" -s q -l quiet -d 'Show no progress'
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from push" -l rm -d 'The same as --purge'
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from push" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from remove" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from rm" -s i -l ignore -d 'A list that is not there is no error'
complete -c coracle -n "__fish_coracle_using_subcommand manifest; and __fish_seen_subcommand_from rm" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand network; and not __fish_seen_subcommand_from create ls list inspect rm remove prune exists connect disconnect reload flows" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand network; and not __fish_seen_subcommand_from create ls list inspect rm remove prune exists connect disconnect reload flows" -f -a "create" -d 'Create a network, whose containers find one another by name'
complete -c coracle -n "__fish_coracle_using_subcommand network; and not __fish_seen_subcommand_from create ls list inspect rm remove prune exists connect disconnect reload flows" -f -a "ls" -d 'List networks'
complete -c coracle -n "__fish_coracle_using_subcommand network; and not __fish_seen_subcommand_from create ls list inspect rm remove prune exists connect disconnect reload flows" -f -a "list" -d 'List networks'
complete -c coracle -n "__fish_coracle_using_subcommand network; and not __fish_seen_subcommand_from create ls list inspect rm remove prune exists connect disconnect reload flows" -f -a "inspect" -d 'Show all there is to know about networks'
complete -c coracle -n "__fish_coracle_using_subcommand network; and not __fish_seen_subcommand_from create ls list inspect rm remove prune exists connect disconnect reload flows" -f -a "rm" -d 'Remove networks'
complete -c coracle -n "__fish_coracle_using_subcommand network; and not __fish_seen_subcommand_from create ls list inspect rm remove prune exists connect disconnect reload flows" -f -a "remove" -d 'Remove networks'
complete -c coracle -n "__fish_coracle_using_subcommand network; and not __fish_seen_subcommand_from create ls list inspect rm remove prune exists connect disconnect reload flows" -f -a "prune" -d 'Remove the networks that no container is on'
complete -c coracle -n "__fish_coracle_using_subcommand network; and not __fish_seen_subcommand_from create ls list inspect rm remove prune exists connect disconnect reload flows" -f -a "exists" -d 'Tell by the exit code whether there is a network: 0, or 1 if not'
complete -c coracle -n "__fish_coracle_using_subcommand network; and not __fish_seen_subcommand_from create ls list inspect rm remove prune exists connect disconnect reload flows" -f -a "connect" -d 'Put a container on one more network'
complete -c coracle -n "__fish_coracle_using_subcommand network; and not __fish_seen_subcommand_from create ls list inspect rm remove prune exists connect disconnect reload flows" -f -a "disconnect" -d 'Take a container from a network'
complete -c coracle -n "__fish_coracle_using_subcommand network; and not __fish_seen_subcommand_from create ls list inspect rm remove prune exists connect disconnect reload flows" -f -a "reload" -d 'Connect running containers again to networks whose process they have lost'
complete -c coracle -n "__fish_coracle_using_subcommand network; and not __fish_seen_subcommand_from create ls list inspect rm remove prune exists connect disconnect reload flows" -f -a "flows" -d 'Show the connections that pass through a network now'
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from create" -s d -l driver -d 'The driver: bridge (default)' -r
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from create" -l subnet -d 'Its addresses, as in 10.1.2.0/24 or fd00:1::/64 (default one that is free)' -r
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from create" -l gateway -d 'The network\'s own address (default the first)' -r
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from create" -l ip-range -d 'Give containers IPv4 addresses of this part of it' -r
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from create" -l dns -d 'Ask this name server for names that are not of the network, not the host\'s' -r
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from create" -s o -l opt -d 'mtu=NUMBER (default the host\'s), datapath=auto|kernel|user (who carries packets, default auto)' -r
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from create" -l label -d 'Set a label' -r
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from create" -l ipv6 -d 'Give it IPv6 addresses, too'
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from create" -l internal -d 'Leave no way out, and none in but from its own containers'
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from create" -l disable-dns -d 'Do not find containers by their names'
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from create" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from ls" -s f -l filter -d 'Show only: name=, id=, label=KEY[=VALUE], driver=, scope=, dangling=BOOL' -r
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from ls" -l format -d 'Show each by a template, or as \'json\', or \'table TEMPLATE\'' -r
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from ls" -l no-trunc -d 'Show whole ids'
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from ls" -s q -l quiet -d 'Show ids only'
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from ls" -s n -l noheading -d 'Leave out the column heads'
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from list" -s f -l filter -d 'Show only: name=, id=, label=KEY[=VALUE], driver=, scope=, dangling=BOOL' -r
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from list" -l format -d 'Show each by a template, or as \'json\', or \'table TEMPLATE\'' -r
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from list" -l no-trunc -d 'Show whole ids'
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Show ids only'
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from list" -s n -l noheading -d 'Leave out the column heads'
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from list" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from inspect" -s f -l format -d 'Show each by a template, or as \'json\'' -r
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from inspect" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from rm" -s t -l time -d 'With --force: seconds to wait before a container is killed, -1 for ever' -r
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from rm" -s f -l force -d 'Remove the containers on it too; a network that is not there is no error'
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from rm" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from remove" -s t -l time -d 'With --force: seconds to wait before a container is killed, -1 for ever' -r
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from remove" -s f -l force -d 'Remove the containers on it too; a network that is not there is no error'
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from remove" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from prune" -l filter -d 'Remove only: until=TIME (made before), label=KEY[=VALUE], label!=KEY[=VALUE]' -r
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from prune" -s f -l force -d 'Don\'t ask first'
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from prune" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from exists" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from connect" -l alias -d 'Be found by this name on the network, too' -r
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from connect" -l ip -d 'Have this address on the network' -r
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from connect" -l ip6 -d 'Have this IPv6 address on the network' -r
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from connect" -l mac-address -d 'Have this hardware address on the network' -r
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from connect" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from disconnect" -s f -l force -d 'No error if there is no such container'
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from disconnect" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from reload" -s a -l all -d 'All running containers'
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from reload" -s l -l latest -d 'The container that was made last'
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from reload" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from flows" -l format -d 'Show each by a template, or as \'json\', or \'table TEMPLATE\'' -r
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from flows" -l json -d 'The same as --format json'
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from flows" -s n -l noheading -d 'Leave out the column heads'
complete -c coracle -n "__fish_coracle_using_subcommand network; and __fish_seen_subcommand_from flows" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand volume; and not __fish_seen_subcommand_from create ls list inspect rm remove prune" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand volume; and not __fish_seen_subcommand_from create ls list inspect rm remove prune" -f -a "create" -d 'Create a volume'
complete -c coracle -n "__fish_coracle_using_subcommand volume; and not __fish_seen_subcommand_from create ls list inspect rm remove prune" -f -a "ls" -d 'List volumes'
complete -c coracle -n "__fish_coracle_using_subcommand volume; and not __fish_seen_subcommand_from create ls list inspect rm remove prune" -f -a "list" -d 'List volumes'
complete -c coracle -n "__fish_coracle_using_subcommand volume; and not __fish_seen_subcommand_from create ls list inspect rm remove prune" -f -a "inspect" -d 'Show all there is to know about volumes'
complete -c coracle -n "__fish_coracle_using_subcommand volume; and not __fish_seen_subcommand_from create ls list inspect rm remove prune" -f -a "rm" -d 'Remove volumes'
complete -c coracle -n "__fish_coracle_using_subcommand volume; and not __fish_seen_subcommand_from create ls list inspect rm remove prune" -f -a "remove" -d 'Remove volumes'
complete -c coracle -n "__fish_coracle_using_subcommand volume; and not __fish_seen_subcommand_from create ls list inspect rm remove prune" -f -a "prune" -d 'Remove the volumes that no container uses'
complete -c coracle -n "__fish_coracle_using_subcommand volume; and __fish_seen_subcommand_from create" -s l -l label -d 'Set a label' -r
complete -c coracle -n "__fish_coracle_using_subcommand volume; and __fish_seen_subcommand_from create" -s d -l driver -d 'The driver: local (default)' -r
complete -c coracle -n "__fish_coracle_using_subcommand volume; and __fish_seen_subcommand_from create" -l ignore -d 'podman\'s; as with docker, a volume that is there already never is an error'
complete -c coracle -n "__fish_coracle_using_subcommand volume; and __fish_seen_subcommand_from create" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand volume; and __fish_seen_subcommand_from ls" -s f -l filter -d 'Show only: name=, label=KEY[=VALUE], driver=, dangling=BOOL' -r
complete -c coracle -n "__fish_coracle_using_subcommand volume; and __fish_seen_subcommand_from ls" -l format -d 'Show each by a template, or as \'json\', or \'table TEMPLATE\'' -r
complete -c coracle -n "__fish_coracle_using_subcommand volume; and __fish_seen_subcommand_from ls" -s q -l quiet -d 'Show names only'
complete -c coracle -n "__fish_coracle_using_subcommand volume; and __fish_seen_subcommand_from ls" -s n -l noheading -d 'Leave out the column heads'
complete -c coracle -n "__fish_coracle_using_subcommand volume; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand volume; and __fish_seen_subcommand_from list" -s f -l filter -d 'Show only: name=, label=KEY[=VALUE], driver=, dangling=BOOL' -r
complete -c coracle -n "__fish_coracle_using_subcommand volume; and __fish_seen_subcommand_from list" -l format -d 'Show each by a template, or as \'json\', or \'table TEMPLATE\'' -r
complete -c coracle -n "__fish_coracle_using_subcommand volume; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Show names only'
complete -c coracle -n "__fish_coracle_using_subcommand volume; and __fish_seen_subcommand_from list" -s n -l noheading -d 'Leave out the column heads'
complete -c coracle -n "__fish_coracle_using_subcommand volume; and __fish_seen_subcommand_from list" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand volume; and __fish_seen_subcommand_from inspect" -s f -l format -d 'Show each by a template, or as \'json\'' -r
complete -c coracle -n "__fish_coracle_using_subcommand volume; and __fish_seen_subcommand_from inspect" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand volume; and __fish_seen_subcommand_from rm" -s t -l time -d 'With --force: seconds to wait before a container is killed, -1 for ever' -r
complete -c coracle -n "__fish_coracle_using_subcommand volume; and __fish_seen_subcommand_from rm" -s f -l force -d 'Remove the containers that use it too; a volume that is not there is no error'
complete -c coracle -n "__fish_coracle_using_subcommand volume; and __fish_seen_subcommand_from rm" -s a -l all -d 'Remove all volumes'
complete -c coracle -n "__fish_coracle_using_subcommand volume; and __fish_seen_subcommand_from rm" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand volume; and __fish_seen_subcommand_from remove" -s t -l time -d 'With --force: seconds to wait before a container is killed, -1 for ever' -r
complete -c coracle -n "__fish_coracle_using_subcommand volume; and __fish_seen_subcommand_from remove" -s f -l force -d 'Remove the containers that use it too; a volume that is not there is no error'
complete -c coracle -n "__fish_coracle_using_subcommand volume; and __fish_seen_subcommand_from remove" -s a -l all -d 'Remove all volumes'
complete -c coracle -n "__fish_coracle_using_subcommand volume; and __fish_seen_subcommand_from remove" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand volume; and __fish_seen_subcommand_from prune" -l filter -d 'Remove only: label=KEY[=VALUE], label!=KEY[=VALUE]' -r
complete -c coracle -n "__fish_coracle_using_subcommand volume; and __fish_seen_subcommand_from prune" -s f -l force -d 'Don\'t ask first'
complete -c coracle -n "__fish_coracle_using_subcommand volume; and __fish_seen_subcommand_from prune" -s a -l all -d 'Remove named volumes too, not only anonymous ones'
complete -c coracle -n "__fish_coracle_using_subcommand volume; and __fish_seen_subcommand_from prune" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand store; and not __fish_seen_subcommand_from df verify check" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand store; and not __fish_seen_subcommand_from df verify check" -f -a "df" -d 'Show the disk space that layers, containers, volumes, the build cache and what is being deleted take'
complete -c coracle -n "__fish_coracle_using_subcommand store; and not __fish_seen_subcommand_from df verify check" -f -a "verify" -d 'Compare images and layers with their digests, and mend what differs'
complete -c coracle -n "__fish_coracle_using_subcommand store; and not __fish_seen_subcommand_from df verify check" -f -a "check" -d 'Compare images and layers with their digests, and mend what differs'
complete -c coracle -n "__fish_coracle_using_subcommand store; and __fish_seen_subcommand_from df" -l format -d 'Show each by a template, or as \'json\', or \'table TEMPLATE\'' -r
complete -c coracle -n "__fish_coracle_using_subcommand store; and __fish_seen_subcommand_from df" -s n -l noheading -d 'Leave out the column heads'
complete -c coracle -n "__fish_coracle_using_subcommand store; and __fish_seen_subcommand_from df" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand store; and __fish_seen_subcommand_from verify" -l authfile -d 'Read a registry\'s credentials from FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand store; and __fish_seen_subcommand_from verify" -s r -l repair -d 'Fetch again what is damaged, and drop what cannot be fetched'
complete -c coracle -n "__fish_coracle_using_subcommand store; and __fish_seen_subcommand_from verify" -s q -l quiet -d 'Print nothing: the exit code tells'
complete -c coracle -n "__fish_coracle_using_subcommand store; and __fish_seen_subcommand_from verify" -l tls-verify -d 'Require HTTPS and a valid certificate of a registry (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand store; and __fish_seen_subcommand_from verify" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand store; and __fish_seen_subcommand_from check" -l authfile -d 'Read a registry\'s credentials from FILE' -r
complete -c coracle -n "__fish_coracle_using_subcommand store; and __fish_seen_subcommand_from check" -s r -l repair -d 'Fetch again what is damaged, and drop what cannot be fetched'
complete -c coracle -n "__fish_coracle_using_subcommand store; and __fish_seen_subcommand_from check" -s q -l quiet -d 'Print nothing: the exit code tells'
complete -c coracle -n "__fish_coracle_using_subcommand store; and __fish_seen_subcommand_from check" -l tls-verify -d 'Require HTTPS and a valid certificate of a registry (default true)'
complete -c coracle -n "__fish_coracle_using_subcommand store; and __fish_seen_subcommand_from check" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand system; and not __fish_seen_subcommand_from df info prune reset" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand system; and not __fish_seen_subcommand_from df info prune reset" -f -a "df" -d 'Show the disk space that images, containers, volumes and the build cache take'
complete -c coracle -n "__fish_coracle_using_subcommand system; and not __fish_seen_subcommand_from df info prune reset" -f -a "info" -d 'Show what this machine is and where things are kept'
complete -c coracle -n "__fish_coracle_using_subcommand system; and not __fish_seen_subcommand_from df info prune reset" -f -a "prune" -d 'Remove stopped containers, unused networks and images, the build cache and, if asked, unused volumes'
complete -c coracle -n "__fish_coracle_using_subcommand system; and not __fish_seen_subcommand_from df info prune reset" -f -a "reset" -d 'Remove all containers, images and volumes'
complete -c coracle -n "__fish_coracle_using_subcommand system; and __fish_seen_subcommand_from df" -l format -d 'Show it by a template, or as \'json\', or \'table TEMPLATE\'' -r
complete -c coracle -n "__fish_coracle_using_subcommand system; and __fish_seen_subcommand_from df" -s v -l verbose -d 'Show each image, container, volume and entry of the build cache'
complete -c coracle -n "__fish_coracle_using_subcommand system; and __fish_seen_subcommand_from df" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand system; and __fish_seen_subcommand_from info" -s f -l format -d 'Show it by a template, or as \'json\'' -r
complete -c coracle -n "__fish_coracle_using_subcommand system; and __fish_seen_subcommand_from info" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand system; and __fish_seen_subcommand_from prune" -l filter -d 'Remove only: until=TIME (made before), label=KEY[=VALUE], label!=KEY[=VALUE]' -r
complete -c coracle -n "__fish_coracle_using_subcommand system; and __fish_seen_subcommand_from prune" -s a -l all -d 'Remove all images that no container uses, not only those without a name'
complete -c coracle -n "__fish_coracle_using_subcommand system; and __fish_seen_subcommand_from prune" -l build -d 'Remove the build cache too, as is done anyway'
complete -c coracle -n "__fish_coracle_using_subcommand system; and __fish_seen_subcommand_from prune" -l volumes -d 'Remove anonymous volumes that no container uses too'
complete -c coracle -n "__fish_coracle_using_subcommand system; and __fish_seen_subcommand_from prune" -s f -l force -d 'Don\'t ask first'
complete -c coracle -n "__fish_coracle_using_subcommand system; and __fish_seen_subcommand_from prune" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand system; and __fish_seen_subcommand_from reset" -s f -l force -d 'Don\'t ask first'
complete -c coracle -n "__fish_coracle_using_subcommand system; and __fish_seen_subcommand_from reset" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand unshare" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand info" -s f -l format -d 'Show it by a template, or as \'json\'' -r
complete -c coracle -n "__fish_coracle_using_subcommand info" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand version" -s f -l format -d 'Show it by a template, or as \'json\'' -r
complete -c coracle -n "__fish_coracle_using_subcommand version" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand doctor" -l format -d 'json' -r
complete -c coracle -n "__fish_coracle_using_subcommand doctor" -s h -l help -d 'Print this help'
complete -c coracle -n "__fish_coracle_using_subcommand completion" -s h -l help -d 'Print this help'
