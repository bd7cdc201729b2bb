#define _GNU_SOURCE
#include "CHostCPU.h"
#include "offsets.h"

#include <asm/ldt.h>
#include <asm/prctl.h>
#include <cpuid.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

_Static_assert(offsetof(HostState, gpr) == STATE_GPR && offsetof(HostState, rip) == STATE_RIP, "offsets.h");
_Static_assert(offsetof(HostState, rflags) == STATE_RFLAGS && offsetof(HostState, es) == STATE_ES, "offsets.h");
_Static_assert(offsetof(HostState, gs) == STATE_GS && sizeof(HostState) == STATE_SIZE, "offsets.h");

extern HostState hostcpu_block;
extern uint64_t hostcpu_fs_base;
extern uint32_t hostcpu_has_fsgsbase, hostcpu_running;
extern void hostcpu_handler(int, siginfo_t *, void *);
void hostcpu_capture(int signal, ucontext_t *context);
void hostcpu_stray(int signal);

enum { PAGE = 4096, HWCAP2_FSGSBASE_BIT = 1 << 1, LDT_WRITE = 0x11 };

static uint8_t *memory;
static bool has_ldt;
static uint8_t signal_stack[1 << 16] __attribute__((aligned(64)));
static const int caught[] = {SIGTRAP, SIGSEGV, SIGILL, SIGFPE, SIGBUS};
static struct sigaction previous[sizeof caught / sizeof caught[0]];

HostState *hostcpu_state(void) { return &hostcpu_block; }
uint8_t *hostcpu_memory(void) { return memory; }
bool hostcpu_has_ldt(void) { return has_ldt; }

bool hostcpu_is_amd(void) {
    unsigned eax, ebx, ecx, edx;
    return __get_cpuid(0, &eax, &ebx, &ecx, &edx) && (ebx == signature_AMD_ebx || ebx == signature_HYGON_ebx);
}

bool hostcpu_is_virtual(void) {
    unsigned eax, ebx, ecx, edx;
    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx >> 31 & 1) != 0;
}

// Called by the handler's assembly: copies the interrupted context into the state block.
void hostcpu_capture(int signal, ucontext_t *context) {
    static const int registers[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                      REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    const greg_t *gregs = context->uc_mcontext.gregs;
    for (int i = 0; i < 16; i++) hostcpu_block.gpr[i] = (uint64_t)gregs[registers[i]];
    hostcpu_block.rip = (uint64_t)gregs[REG_RIP];
    hostcpu_block.rflags = (uint64_t)gregs[REG_EFL];
    hostcpu_block.vector = (uint32_t)gregs[REG_TRAPNO];
    hostcpu_block.errorCode = (uint64_t)gregs[REG_ERR];
    hostcpu_block.cr2 = (uint64_t)gregs[REG_CR2];
    hostcpu_block.cs = (uint16_t)gregs[REG_CSGSFS];
    hostcpu_block.signal = (uint32_t)signal;
    memcpy(hostcpu_block.fx, context->uc_mcontext.fpregs, sizeof hostcpu_block.fx);
}

static char form_name[256];
static int case_number;

void hostcpu_note(const char *form, int number) {
    if (form) snprintf(form_name, sizeof form_name, "%s", form);
    case_number = number;
}

static void report(const char *event) {
    char line[400];
    int length = snprintf(line, sizeof line, "hostdiff: %s in --form '%s' --case %d\n", event, form_name, case_number);
    (void)!write(2, line, (size_t)length);
}

// A signal outside hostcpu_run is this process's own: let it happen again as it would have without the handler.
void hostcpu_stray(int signal_number) {
    report(strsignal(signal_number));
    for (size_t i = 0; i < sizeof caught / sizeof caught[0]; i++)
        if (caught[i] == signal_number) sigaction(signal_number, &previous[i], NULL);
}

static void watchdog_expired(int signal_number) {
    (void)signal_number;
    report("the code does not end");
    _exit(3);
}

void hostcpu_set_watchdog(unsigned seconds) {
    struct sigaction action = {.sa_handler = watchdog_expired, .sa_flags = SA_ONSTACK | SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    alarm(seconds);
}

static const char *map_window(uint64_t base, bool swapped, int file) {
    static const struct { uint32_t offset; int page, swapped, rights; } pages[] = {
        {HOST_OFFSET_DATA, HOST_PAGE_DATA0, HOST_PAGE_DATA1, PROT_READ | PROT_WRITE},
        {HOST_OFFSET_DATA + PAGE, HOST_PAGE_DATA1, HOST_PAGE_DATA0, PROT_READ | PROT_WRITE},
        {HOST_OFFSET_DATA + 2 * PAGE, HOST_PAGE_CONST, HOST_PAGE_CONST, PROT_READ},
        {HOST_OFFSET_STACK, HOST_PAGE_STACK0, HOST_PAGE_STACK1, PROT_READ | PROT_WRITE},
        {HOST_OFFSET_STACK + PAGE, HOST_PAGE_STACK1, HOST_PAGE_STACK0, PROT_READ | PROT_WRITE},
        {HOST_OFFSET_CODE, HOST_PAGE_CODE, HOST_PAGE_CODE, PROT_READ | PROT_EXEC},
    };
    for (size_t i = 0; i < sizeof pages / sizeof pages[0]; i++) {
        void *address = (void *)(base + pages[i].offset);
        int page = swapped ? pages[i].swapped : pages[i].page;
        int flags = MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_POPULATE;
        if (mmap(address, PAGE, pages[i].rights, flags, file, (off_t)page * PAGE) != address)
            return "the host refuses the window's fixed addresses";
    }
    return NULL;
}

static bool make_segment(unsigned selector, struct user_desc descriptor) {
    descriptor.entry_number = selector >> 3;
    descriptor.useable = 1;
    return syscall(SYS_modify_ldt, LDT_WRITE, &descriptor, sizeof descriptor) == 0;
}

static bool make_ldt(void) {
    enum { DATA, EXPAND_DOWN, CODE };
    unsigned base = (unsigned)HOST_WINDOW_LOW;
    struct user_desc code = {.base_addr = base, .limit = 0xffff, .contents = CODE};
    struct user_desc data = {.base_addr = base, .limit = 0xffff, .contents = DATA};
    struct user_desc flat = {.limit = 0xfffff, .limit_in_pages = 1, .contents = DATA, .seg_32bit = 1};
    bool made = make_segment(HOST_LDT_CODE16, code) && make_segment(HOST_LDT_DATA16, data);
    code.seg_32bit = data.seg_32bit = 1;
    made = made && make_segment(HOST_LDT_CODE32, code) && make_segment(HOST_LDT_DATA32, data);
    flat.base_addr = base + HOST_FS_SHIFT;
    made = made && make_segment(HOST_LDT_FS, flat);
    flat.base_addr = base + HOST_GS_SHIFT;
    made = made && make_segment(HOST_LDT_GS, flat);
    data.seg_32bit = 0;
    data.read_exec_only = 1;
    made = made && make_segment(HOST_LDT_CONST, data);
    data.read_exec_only = 0;
    data.limit = HOST_SHORT_LIMIT;
    made = made && make_segment(HOST_LDT_SHORT, data);
    data.limit = HOST_DOWN_LIMIT;
    data.contents = EXPAND_DOWN;
    return made && make_segment(HOST_LDT_DOWN, data);
}

const char *hostcpu_start(void) {
    int file = memfd_create("window", 0);
    size_t size = (size_t)HOST_PAGE_COUNT * PAGE;
    if (file < 0 || ftruncate(file, (off_t)size) != 0) return "no shared memory";
    void *view = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, file, 0);
    if (view == MAP_FAILED) return "no shared memory";
    memory = view;
    const char *failure = map_window(HOST_WINDOW_LOW, false, file);
    if (!failure) failure = map_window(HOST_WINDOW_HIGH, true, file);
    if (failure) return failure;
    close(file);
    has_ldt = make_ldt();
    hostcpu_has_fsgsbase = getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE_BIT;
    syscall(SYS_arch_prctl, ARCH_GET_FS, &hostcpu_fs_base);
    stack_t stack = {.ss_sp = signal_stack, .ss_size = sizeof signal_stack};
    if (sigaltstack(&stack, NULL) != 0) return "no signal stack";
    for (size_t i = 0; i < sizeof caught / sizeof caught[0]; i++) {
        struct sigaction action = {.sa_sigaction = hostcpu_handler,
                                   .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
        if (sigaction(caught[i], &action, &previous[i]) != 0) return "no signal handler";
    }
    return NULL;
}
