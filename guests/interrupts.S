// When interrupts and NMIs are taken: STI shadow, POPF, IRET, HLT, string instructions, priorities; the PIC and the local APIC.
#include "lib.inc"
START_PROTECTED

#define IRQ0 0x20
#define APIC 0xfee00000
#define APIC_ID APIC+0x20
#define APIC_TPR APIC+0x80
#define APIC_PPR APIC+0xa0
#define APIC_EOI APIC+0xb0
#define APIC_SVR APIC+0xf0
#define APIC_ISR2 APIC+0x120            /* vectors 40-5F */
#define APIC_IRR2 APIC+0x220
#define APIC_ICR_LOW APIC+0x300
#define APIC_ICR_HIGH APIC+0x310
#define APIC_TIMER APIC+0x320
#define APIC_LINT0 APIC+0x350
#define APIC_INITIAL APIC+0x380
#define APIC_CURRENT APIC+0x390
#define APIC_DIVIDE APIC+0x3e0

// Sends vector \v to this CPU and waits until it was accepted.
.macro SELF_IPI v
    movl $(0x40000 + \v), APIC_ICR_LOW
80: testl $0x1000, APIC_ICR_LOW
    jnz 80b
.endm

main:
    // Where there is a local APIC the PIC reaches the CPU through its LINT0.
    movl $1, %eax
    cpuid
    testl $0x200, %edx
    jz 1f
    movl $0x14f, APIC_SVR
    movl $0x700, APIC_LINT0
1:
    // ---- IRQ 0 waits with IF clear -----------------------------------------------------------------------------------------
    call pend_irq0
    TRY
    sti
    nop
    AT
    nop
    EXPECT "STI: after the next instruction", IRQ0
    call end_irq0
    CHECK "EFLAGS pushed", "rec_flags", FL_IF | 2
    call pend_irq0
    TRY
    sti
    cli
    nop
    EXPECT_ANY_IP "STI, CLI: not taken", 0xff
    TRY
    pushl $FL_IF | 2
    popfl
    AT
    nop
    EXPECT "POPF: at once", IRQ0
    call end_irq0
    call pend_irq0
    TRY
    pushl $FL_IF | 2
    pushl $CS32
    pushl $1f
    iretl
1:  AT
    nop
    EXPECT "IRET: before the instruction returned to", IRQ0
    call end_irq0
    call pend_irq0
    TRY
    sti
    hlt
    AT
    nop
    EXPECT "STI, HLT: after HLT", IRQ0
    call end_irq0
    call pend_irq0
    movl $FL_IF | 2, user_flags
    TRY
    calll enter_ring3_32
77: nop
    EXPECT "IRET to ring 3: at once", IRQ0
    call end_irq0
    CHECK "ring 3's CS", "rec_cs", CS32_3
    call pend_irq0
    movl $FL_IF | FL_TF | 2, user_flags
    TRY
    calll enter_ring3_32
77: nop
    EXPECT "with TF: the interrupt, before any step", IRQ0
    call end_irq0
    CHECK "pushed TF", "rec_flags", FL_IF | FL_TF | 2
    movl $2, user_flags
    call pend_irq0
    TRY
    sti
    AT
    ud2
    EXPECT "STI, UD2: the exception first", UD
    CHECK "IF is pushed set", "rec_flags", FL_IF | FL_RF | 2
    TRY
    sti
    jmp 1f
    nop
1:  AT
    nop
    EXPECT "STI, JMP: at the target", IRQ0
    call end_irq0
    call pend_irq0
    movl $3, %ecx
    movl $0x700, %edi
    TRY
    sti
    rep stosb
    nop
    EXPECT_ANY_IP "STI, REP STOS: taken", IRQ0
    call end_irq0
    // HLT until an interrupt that comes later.
    call start_pit
    movb $0xfe, %al
    outb %al, $0x21
    TRY
    sti
    hlt
    AT
    nop
    EXPECT "HLT wakes", IRQ0
    call end_irq0
    // A string instruction is interrupted between iterations and goes on.
    movl $0x400000, %ecx
    movl $0x400000, %edi
    xorl %eax, %eax
    call start_pit
    pushl %eax
    movb $0xfe, %al
    outb %al, $0x21
    popl %eax
    TRY
    sti
    nop
    AT
    rep stosb
    EXPECT "REP STOSB is interrupted", IRQ0
    call end_irq0
    movl rec_ecx, %eax
    addl rec_edi, %eax
    CHECK "its ECX and EDI fit", "%eax", 0x800000
    cmpb $0, vendor_amd                 // Intel documents this, AMD does not
    jne 1f
    movl rec_flags, %eax
    andl $FL_RF, %eax
    CHECK "RF is pushed set within a REP", "%eax", FL_RF
1:
    cmpl $0x400000, rec_ecx
    setb %al
    cmpl $0, rec_ecx
    seta %ah
    CHECKW "it was on its way", "%ax", 0x0101
    SETIDT IRQ0, CS32, count_irq0, 0x8e
    movl $0, counter
    movl $0x400000, %ecx
    movl $0x400000, %edi
    movl $0x5a5a5a5a, %eax
    pushl %eax
    call start_pit
    movb $0xfe, %al
    outb %al, $0x21
    popl %eax
    sti
    rep stosb
    cli
    movb $0xff, %al
    outb %al, $0x21
    CHECK "REP STOSB goes on after IRET", "%ecx", 0
    CHECK "EDI at the end", "%edi", 0x800000
    CHECK "the last byte", "0x7ffffc", 0x5a5a5a5a
    CHECK "interrupts taken", "counter", 1
    RESETIDT IRQ0

    // ---- The PIC ------------------------------------------------------------------------------------------------------------
    call pend_irq0
    movb $0xff, %al
    outb %al, $0x21
    TRY
    sti
    nop
    nop
    EXPECT_ANY_IP "masked: not taken", 0xff
    cli
    movb $0x0a, %al
    outb %al, $0x20
    inb $0x20, %al
    andb $1, %al
    CHECKB "the request stays", "%al", 1
    movb $0xfe, %al
    outb %al, $0x21
    TRY
    sti
    nop
    nop
    EXPECT_ANY_IP "unmasked: taken", IRQ0
    movb $0x0b, %al
    outb %al, $0x20
    inb $0x20, %al
    CHECKB "in service", "%al", 1
    movb $0x20, %al
    outb %al, $0x20
    inb $0x20, %al
    CHECKB "end of interrupt", "%al", 0
    inb $0x21, %al
    CHECKB "mask reads back", "%al", 0xfe
    movb $0xff, %al
    outb %al, $0x21
    // RTC: update-ended or periodic interrupt through the second controller (IRQ 8).
    movb $0x0b, %al
    outb %al, $0x70
    inb $0x71, %al
    orb $0x40, %al                      // periodic interrupt
    movb %al, %ah
    movb $0x0b, %al
    outb %al, $0x70
    movb %ah, %al
    outb %al, $0x71
    movb $0x0a, %al
    outb %al, $0x70
    movb $0x26, %al                     // 1,024 Hz
    outb %al, $0x71
    movb $0x0c, %al
    outb %al, $0x70
    inb $0x71, %al
    movb $0xfb, %al
    outb %al, $0x21
    movb $0xfe, %al
    outb %al, $0xa1
    TRY
    sti
    hlt
    AT
    EXPECT "IRQ 8", 0x28
    movb $0x0b, %al
    outb %al, $0xa0
    outb %al, $0x20
    inb $0xa0, %al
    CHECKB "in service at the second controller", "%al", 1
    inb $0x20, %al
    CHECKB "and on the cascade line", "%al", 4
    movb $0x0c, %al
    outb %al, $0x70
    inb $0x71, %al
    andb $0xc0, %al
    CHECKB "RTC register C", "%al", 0xc0
    movb $0x20, %al
    outb %al, $0xa0
    outb %al, $0x20
    movb $0x0b, %al
    outb %al, $0x70
    movb $0x02, %al
    outb %al, $0x71
    movb $0xff, %al
    outb %al, $0xa1
    outb %al, $0x21

    // ---- The local APIC --------------------------------------------------------------------------------------------------------
    movl $1, %eax
    cpuid
    testl $0x200, %edx
    jnz 1f
    SKIP "local APIC", "not in CPUID"
    FINISH
1:  movl $IA32_APIC_BASE, %ecx
    rdmsr
    andl $0xfffff900, %eax
    CHECK "APIC base: enabled, boot processor", "%eax", APIC + 0x900
    CHECK "IRR is empty", APIC_IRR2, 0
    SELF_IPI 0x41
    CHECK "request of vector 41", APIC_IRR2, 2
    TRY
    sti
    nop
    AT
    nop
    EXPECT "self IPI", 0x41
    CHECK "in service", APIC_ISR2, 2
    CHECK "request is taken", APIC_IRR2, 0
    CHECK "processor priority", APIC_PPR, 0x40
    SELF_IPI 0x40
    TRY
    sti
    nop
    nop
    EXPECT_ANY_IP "same class in service: waits", 0xff
    cli
    movl $0, APIC_EOI
    CHECK "end of interrupt", APIC_ISR2, 0
    SELF_IPI 0x42
    TRY
    sti
    nop
    AT
    nop
    EXPECT "the higher vector first", 0x42
    movl $0, APIC_EOI
    TRY
    sti
    nop
    AT
    nop
    EXPECT "then the lower", 0x40
    movl $0, APIC_EOI
    movl $0x40, APIC_TPR
    SELF_IPI 0x44
    TRY
    sti
    nop
    nop
    EXPECT_ANY_IP "task priority 40 holds class 4", 0xff
    cli
    TRY
    sti
    nop
    movl $0x3f, APIC_TPR
    AT
    nop
    EXPECT_ANY_IP "lowering it releases", 0x44
    cli
    movl $0, APIC_EOI
    movl $0, APIC_TPR
    call pend_irq0
    TRY
    sti
    nop
    AT
    nop
    EXPECT "PIC through LINT0", IRQ0
    call end_irq0
    CHECK "ExtINT is not in service there", APIC_ISR2, 0
    // The timer: one shot.
    movl $0x0b, APIC_DIVIDE             // by 1
    movl $0x45, APIC_TIMER
    movl $100000, APIC_INITIAL
    movl APIC_CURRENT, %eax
    movl APIC_CURRENT, %ebx
    cmpl %ebx, %eax
    setae %cl
    cmpl $100000, %ebx
    setbe %ch
    CHECKW "timer counts down", "%cx", 0x0101
    TRY
    sti
    hlt
    AT
    nop
    EXPECT "timer wakes HLT", 0x45
    movl $0, APIC_EOI
    CHECK "one shot stops at 0", APIC_CURRENT, 0
    movl $0x20046, APIC_TIMER           // periodic
    movl $50000, APIC_INITIAL
    TRY
    sti
    hlt
    EXPECT_ANY_IP "periodic timer", 0x46
    movl $0, APIC_EOI
    TRY
    sti
    hlt
    EXPECT_ANY_IP "periodic timer again", 0x46
    movl $0, APIC_EOI
    movl $0x10046, APIC_TIMER
    movl $0, APIC_INITIAL
    // NMI to itself: taken with IF clear, blocks further ones until IRET.
    movl APIC_ID, %eax
    andl $0xff000000, %eax
    movl %eax, APIC_ICR_HIGH
    SETIDT NMI, CS32, nmi_handler, 0x8e
    movl $0, counter
    movl $0, nested
    movl $0x4400, APIC_ICR_LOW
    movl $1000, %ecx
1:  nop
    loop 1b
    CHECK "NMI with IF clear; a second one after IRET", "counter", 2
    CHECK "not while the first is handled", "nested", 1
    RESETIDT NMI
    FINISH

// IRQ 0 requested and unmasked.
pend_irq0:
    call start_pit
1:  movb $0x0a, %al
    outb %al, $0x20
    inb $0x20, %al
    testb $1, %al
    jz 1b
    movb $0xfe, %al
    outb %al, $0x21
    ret
// The PIT counts down once, for 2 ms.
start_pit:
    movb $0x30, %al
    outb %al, $0x43
    movb $0x50, %al
    outb %al, $0x40
    movb $0x09, %al
    outb %al, $0x40
    ret
end_irq0:
    movb $0x20, %al
    outb %al, $0x20
    movb $0xff, %al
    outb %al, $0x21
    ret
count_irq0:
    pushl %eax
    incl counter
    movb $0x20, %al
    outb %al, $0x20
    popl %eax
    iretl
nmi_handler:
    incl counter
    cmpl $1, counter
    jne 2f
    movl $0x4400, APIC_ICR_LOW          // the second one waits
    pushl %ecx
    movl $1000, %ecx
1:  nop
    loop 1b
    popl %ecx
    pushl counter
    popl nested
2:  iretl
    .data
counter: .long 0
nested: .long 0
