// trapmark TEXT …: writes a line to port 0xE9, which a recording keeps as a mark. A static 32-bit program for Linux
// without a library, so that it runs under 32- and 64-bit kernels. It needs root, for ioperm.
.set sys_exit, 1
.set sys_ioperm, 101
.set mark_port, 0xE9

.globl _start
.text
_start:
    pop %ecx                    // argc, which the argv list makes superfluous
    pop %eax                    // argv[0]
    mov $sys_ioperm, %eax
    mov $mark_port, %ebx
    mov $1, %ecx
    mov $1, %edx
    int $0x80
    mov $1, %ebx                // exit status 1 if the port is refused
    test %eax, %eax
    jnz exit
    mov $mark_port, %edx
    xor %ecx, %ecx              // whether a word was written
word:
    pop %esi
    test %esi, %esi
    jz end
    test %ecx, %ecx
    jz byte
    mov $' ', %al
    out %al, %dx
byte:
    inc %ecx
    lodsb
    test %al, %al
    jz word
    out %al, %dx
    jmp byte
end:
    mov $'\n', %al
    out %al, %dx
    xor %ebx, %ebx
exit:
    mov $sys_exit, %eax
    int $0x80
