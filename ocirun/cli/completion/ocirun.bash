# bash completion for ocirun

_ocirun() {
    local line=${COMP_LINE:0:COMP_POINT} kind value help skip
    # Readline's word begins behind = and :, the answer's with the option or the image's name.
    skip=${line##*[[:space:]]}
    skip=${skip%"${skip##*[=:]}"}
    COMPREPLY=()
    while IFS=$'\t' read -r kind value help; do
        case $kind in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("${value#"$skip"}") ;;
        esac
    done < <(COMP_LINE=$line _OCIRUN_COMPLETE=complete_line "${1/#\~\//$HOME/}" 2>/dev/null </dev/null)
}

complete -F _ocirun ocirun
