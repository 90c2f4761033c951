# fish completion for ocirun

function __ocirun_complete
    set -l program (commandline -opc)[1]
    set -l word (commandline -ct)
    set -l option (string match -r -- '^-[^=]*=' $word)
    set -l path (string replace -r -- '^-[^=]*=' '' $word)
    set -lx COMP_LINE (commandline -cp | string collect)
    set -lx _OCIRUN_COMPLETE complete_line
    for line in ($program 2>/dev/null </dev/null)
        set -l part (string split \t -- $line)
        switch $part[1]
            case dir
                string replace -r '^' -- "$option" (__fish_complete_directories "$path" '')
            case file
                string replace -r '^' -- "$option" (__fish_complete_path "$path" '')
            case plain
                echo $part[2]\t$part[3]
        end
    end
end

complete --command ocirun --no-files --arguments '(__ocirun_complete)'
