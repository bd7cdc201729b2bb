/// Options as QEMU spells them, for those who come from there.
enum QEMUSpelling {
    private static let options = [
        "-kernel": "--kernel", "-initrd": "--initrd", "-append": "--append", "-m": "--memory", "-bios": "--firmware",
        "-cdrom": "--cdrom",
    ]
    /// Options whose value may look like an option.
    private static let takesText: Set<String> = [
        "-append", "--append", "--exec", "--stop-on", "--stop-on-screen", "--fail-on", "--start-on",
    ]

    /// `arguments` with QEMU's spellings replaced by the project's own.
    static func rewrite(_ arguments: [String]) -> [String] {
        var rewritten: [String] = []
        var isText = false
        for argument in arguments {
            rewritten.append(isText ? argument : options[argument] ?? argument)
            isText = !isText && takesText.contains(argument)
        }
        return rewritten
    }
}
