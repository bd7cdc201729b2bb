// The PC around the CPU: A20, PIT, port 61h, CMOS and RTC, keyboard controller, state after reset (real mode).
#include "lib.inc"
START_REAL

.macro OUT port, value
    movb $\value, %al
    outb %al, $\port
.endm
.macro CMOS_READ register
    movb $\register, %al
    outb %al, $0x70
    inb $0x71, %al
.endm
.macro CMOS_WRITE register, value
    movb $\register, %al
    outb %al, $0x70
    movb $\value, %al
    outb %al, $0x71
.endm

main:
    // ---- After reset -----------------------------------------------------------------------------------------------------
    movl boot_edx, %eax
    shrl $8, %eax
    andl $0xf, %eax
    setnz %al
    CHECKB "EDX has the family", "%al", 1
    CHECK "EBX", "boot_ebx", 0
    CHECK "EBP", "boot_ebp", 0
    CHECK "ESP", "boot_esp", 0
    movl %cr0, %eax
    CHECK "CR0", "%eax", 0x60000010
    movl %cr4, %eax
    CHECK "CR4", "%eax", 0
    movl %cr2, %eax
    CHECK "CR2", "%eax", 0
    movl %cr3, %eax
    CHECK "CR3", "%eax", 0
    movl %dr7, %eax
    CHECK "DR7", "%eax", 0x400
    movl %dr6, %eax
    CHECK "DR6", "%eax", 0xffff0ff0
    sidtl 0x600
    CHECK "IDT base", "0x602", 0
    sgdtl 0x600
    CHECK "GDT base", "0x602", 0
    CHECKF "EFLAGS: system flags", 0xfffff700, 0

    // ---- A20 -------------------------------------------------------------------------------------------------------------------
    cmpb $0, on_kvm
    je 1f
    SKIP "A20", "KVM has no gate"
    jmp no_a20
1:  inb $0x92, %al
    orb $2, %al
    andb $~1, %al
    outb %al, $0x92
    movw $0xffff, %ax
    movw %ax, %fs
    movl $0x11111111, 0x600
    movl $0x22222222, %fs:0x610
    CHECK "A20 on: 600", "0x600", 0x11111111
    CHECK "A20 on: 100600", "%fs:0x610", 0x22222222
    inb $0x92, %al
    andb $~3, %al
    outb %al, $0x92
    inb $0x92, %al
    andb $2, %al
    CHECKB "port 92h reads back", "%al", 0
    CHECK "A20 off: 100600 is 600", "%fs:0x610", 0x11111111
    movl $0x33333333, %fs:0x610
    CHECK "A20 off: write through FFFF:", "0x600", 0x33333333
    inb $0x92, %al
    orb $2, %al
    andb $~1, %al
    outb %al, $0x92
    CHECK "A20 on again: 100600", "%fs:0x610", 0x22222222
    CHECK "A20 on again: 600", "0x600", 0x33333333
    // With 32-bit addresses: the odd megabyte above 2 MB.
    lgdtl gdt_pointer
    movl %cr0, %eax
    orb $CR0_PE, %al
    movl %eax, %cr0
    movw $DS32, %bx
    movw %bx, %gs
    andb $~CR0_PE, %al
    movl %eax, %cr0
    xorw %bx, %bx
    movw %bx, %gs
    movl $0x300700, %ebx
    movl $0x200700, %esi
    movl $0x44444444, %gs:(%esi)
    movl $0x55555555, %gs:(%ebx)
    inb $0x92, %al
    andb $~3, %al
    outb %al, $0x92
    CHECK "A20 off: 300700 is 200700", "%gs:(%ebx)", 0x44444444
    CHECK "A20 off: 200700 stays", "%gs:(%esi)", 0x44444444
    // The keyboard controller's output port opens it too.
    call wait_8042
    OUT 0x64, 0xd1
    call wait_8042
    OUT 0x60, 0xdf
    call wait_8042
    CHECK "A20 on by the keyboard controller", "%gs:(%ebx)", 0x55555555
    call wait_8042
    OUT 0x64, 0xd1
    call wait_8042
    OUT 0x60, 0xdd
    call wait_8042
    CHECK "A20 off by the keyboard controller", "%gs:(%ebx)", 0x44444444
    call wait_8042
    OUT 0x64, 0xd1
    call wait_8042
    OUT 0x60, 0xdf
    call wait_8042
    inb $0x92, %al
    orb $2, %al
    andb $~1, %al
    outb %al, $0x92
    CHECK "A20 on at the end", "%gs:(%ebx)", 0x55555555
no_a20:

    // ---- Keyboard controller ------------------------------------------------------------------------------------------------------
    call flush_8042
    OUT 0x64, 0xaa
    call read_8042
    CHECKB "8042: self-test", "%al", 0x55
    OUT 0x64, 0xab
    call read_8042
    CHECKB "8042: interface test", "%al", 0
    OUT 0x64, 0x60
    call wait_8042
    OUT 0x60, 0x74
    call wait_8042
    OUT 0x64, 0x20
    call read_8042
    CHECKB "8042: command byte", "%al", 0x74

    // ---- PIT and port 61h ---------------------------------------------------------------------------------------------------------
    OUT 0x61, 0
    OUT 0x43, 0xb0                      // channel 2, mode 0, both bytes
    OUT 0x42, 0x00
    OUT 0x42, 0x10
    inb $0x61, %al
    andb $0x23, %al
    CHECKB "gate low: output low", "%al", 0
    OUT 0x43, 0x80
    inb $0x42, %al
    movb %al, %bl
    inb $0x42, %al
    movb %al, %bh
    movw $100, %cx
1:  inb $0x80, %al
    loop 1b
    OUT 0x43, 0x80
    inb $0x42, %al
    movb %al, %dl
    inb $0x42, %al
    movb %al, %dh
    subw %dx, %bx
    CHECKW "gate low: the count stands", "%bx", 0
    OUT 0x61, 1
    movw $0, %cx
    movl $0x1000000, %ecx
1:  inb $0x61, %al
    testb $0x20, %al
    jnz 2f
    decl %ecx
    jnz 1b
2:  andb $0x23, %al
    CHECKB "gate high: output rises at the end", "%al", 0x21
    OUT 0x43, 0xb6                      // mode 3
    OUT 0x42, 0x00
    OUT 0x42, 0x20
    OUT 0x43, 0xe8                      // read-back: status of channel 2
    inb $0x42, %al
    andb $0x3f, %al
    CHECKB "read-back: status", "%al", 0x36
    OUT 0x43, 0x80                      // latch, wait, read: the latched value
    movw $1000, %cx
1:  loop 1b
    inb $0x42, %al
    movb %al, %bl
    inb $0x42, %al
    movb %al, %bh
    OUT 0x43, 0x80
    inb $0x42, %al
    movb %al, %dl
    inb $0x42, %al
    movb %al, %dh
    cmpw %bx, %dx
    setne %al
    CHECKB "it counts on behind the latch", "%al", 1
    OUT 0x61, 0
    inb $0x61, %al
    movb %al, %bl
    movl $100000, %ecx
1:  inb $0x61, %al
    xorb %bl, %al
    testb $0x10, %al
    jnz 2f
    decl %ecx
    jnz 1b
2:  andb $0x10, %al
    CHECKB "refresh toggles", "%al", 0x10

    // The PIC reaches the CPU through the local APIC's LINT0, where there is one.
    movl $1, %eax
    cpuid
    testl $0x200, %edx
    jz 1f
    lgdtl gdt_pointer
    movl %cr0, %eax
    orb $CR0_PE, %al
    movl %eax, %cr0
    movw $DS32, %bx
    movw %bx, %gs
    andb $~CR0_PE, %al
    movl %eax, %cr0
    movl $0xfee00000, %ebx
    movl $0x14f, %gs:0xf0(%ebx)
    movl $0x700, %gs:0x350(%ebx)
    xorw %bx, %bx
    movw %bx, %gs
1:
    // ---- CMOS and RTC -----------------------------------------------------------------------------------------------------------------
    CMOS_WRITE 0x55, 0xa7
    CMOS_WRITE 0x56, 0x3c
    CMOS_READ 0x55
    CHECKB "CMOS memory", "%al", 0xa7
    CMOS_READ 0x0d
    andb $0x80, %al
    CHECKB "RTC: battery good", "%al", 0x80
    CMOS_WRITE 0x0a, 0x26
    CMOS_WRITE 0x0b, 0x82               // SET, 24 hours, BCD
    CMOS_WRITE 0x00, 0x58
    CMOS_WRITE 0x02, 0x59
    CMOS_WRITE 0x04, 0x23
    CMOS_WRITE 0x07, 0x28
    CMOS_WRITE 0x08, 0x02
    CMOS_WRITE 0x09, 0x24
    CMOS_READ 0x00
    CHECKB "RTC: seconds are held by SET", "%al", 0x58
    // A few updates, 23:59:58 to 0:00:00 on 29 February, with the update-ended interrupt waking HLT.
    movw $count_irq8, 0x28 * 4
    movw $0, counter
    OUT 0x21, 0xfb
    OUT 0xa1, 0xfe
    CMOS_READ 0x0c
    CMOS_WRITE 0x0b, 0x12
1:  sti
    hlt
    cli
    CMOS_READ 0x04
    testb %al, %al
    jz 2f
    cmpw $10, counter
    jb 1b
2:
    CMOS_WRITE 0x0b, 0x02
    OUT 0x21, 0xff
    OUT 0xa1, 0xff
    CMOS_READ 0x04
    CHECKB "RTC: midnight", "%al", 0
    CMOS_READ 0x07
    CHECKB "RTC: leap day", "%al", 0x29
    CMOS_READ 0x08
    CHECKB "RTC: still February", "%al", 0x02
    CHECKB "RTC: register C in the interrupt", "flags", 0x90
    CMOS_READ 0x0c
    andb $0x90, %al
    CHECKB "RTC: reading register C cleared it", "%al", 0
    CMOS_WRITE 0x0b, 0x06               // binary
    FINISH

wait_8042:
    inb $0x64, %al
    testb $2, %al
    jnz wait_8042
    ret
read_8042:
    inb $0x64, %al
    testb $1, %al
    jz read_8042
    inb $0x60, %al
    ret
flush_8042:
    inb $0x64, %al
    testb $1, %al
    jz 1f
    inb $0x60, %al
    jmp flush_8042
1:  ret
count_irq8:
    pushw %ax
    incw counter
    CMOS_READ 0x0c
    andb $0x90, %al
    movb %al, flags
    OUT 0xa0, 0x20
    OUT 0x20, 0x20
    popw %ax
    iretw
    .data
counter: .word 0
flags: .byte 0
