#define _GNU_SOURCE
#include "CHostCPU.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, SECONDS = 5 };

static uint8_t *memory;      // backing pages, shared with the child
static HostState *state;     // shared with the child
static int to_child = -1, from_child = -1;
static pid_t child;
static const HostPage *mapped;
static size_t mapped_count;
static int backing = -1;

HostState *hostcpu_program_state(void) { return state; }
uint8_t *hostcpu_program_memory(void) { return memory; }

// Nothing but what the child's loop and its signal handler need; any other system call kills it.
static bool confine(void) {
#define ALLOW(name) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##name, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0xc000003e, 1, 0), // x86-64
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ALLOW(read), ALLOW(write), ALLOW(exit_group), ALLOW(alarm), ALLOW(arch_prctl),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {.len = sizeof filter / sizeof filter[0], .filter = filter};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0;
}

static void serve(int commands, int answers) {
    char byte;
    signal(SIGALRM, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    const char *failure = hostcpu_start_pages(mapped, mapped_count, backing);
    byte = failure == NULL && confine();
    if (write(answers, &byte, 1) != 1 || !byte) _exit(2);
    while (read(commands, &byte, 1) == 1) {
        memcpy(hostcpu_state(), state, sizeof *state);
        alarm(SECONDS);
        hostcpu_run();
        alarm(0);
        memcpy(state, hostcpu_state(), sizeof *state);
        if (write(answers, &byte, 1) != 1) break;
    }
    _exit(0);
}

static const char *start_child(void) {
    int commands[2], answers[2];
    if (pipe(commands) != 0 || pipe(answers) != 0) return "no pipes";
    child = fork();
    if (child < 0) return "no process";
    if (child == 0) {
        close(commands[1]);
        close(answers[0]);
        serve(commands[0], answers[1]);
    }
    close(commands[0]);
    close(answers[1]);
    to_child = commands[1];
    from_child = answers[0];
    char ready = 0;
    if (read(from_child, &ready, 1) != 1 || !ready) return "the host refuses the fixed addresses or the sandbox";
    return NULL;
}

const char *hostcpu_program_start(const HostPage *pages, size_t count, size_t page_count) {
    signal(SIGPIPE, SIG_IGN);
    mapped = pages;
    mapped_count = count;
    backing = memfd_create("program", MFD_CLOEXEC);
    if (backing < 0 || ftruncate(backing, (off_t)(page_count * PAGE)) != 0) return "no shared memory";
    void *view = mmap(NULL, page_count * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, backing, 0);
    void *block = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (view == MAP_FAILED || block == MAP_FAILED) return "no shared memory";
    memory = view;
    state = block;
    return start_child();
}

bool hostcpu_program_run(void) {
    char byte = 1;
    if (write(to_child, &byte, 1) == 1 && read(from_child, &byte, 1) == 1) return true;
    close(to_child);
    close(from_child);
    waitpid(child, NULL, 0);
    start_child();
    return false;
}

// What runs now, for the line that a crash or a hang leaves.
static char running[128];

void hostcpu_program_note(const char *text) { snprintf(running, sizeof running, "%s", text); }

static void ended(int number) {
    char line[256];
    int length = snprintf(line, sizeof line, "blockdiff: %s in %s\n", strsignal(number), running);
    (void)!write(1, line, (size_t)length);
    signal(number, SIG_DFL);
    raise(number);
}

void hostcpu_program_watch(unsigned seconds) {
    static uint8_t stack[1 << 15] __attribute__((aligned(64)));
    static const int watched[] = {SIGSEGV, SIGILL, SIGFPE, SIGBUS, SIGTRAP, SIGALRM};
    static bool installed;
    if (!installed) {
        stack_t alternative = {.ss_sp = stack, .ss_size = sizeof stack};
        sigaltstack(&alternative, NULL);
        for (size_t i = 0; i < sizeof watched / sizeof watched[0]; i++) {
            struct sigaction action = {.sa_handler = ended, .sa_flags = SA_ONSTACK | SA_NODEFER};
            sigaction(watched[i], &action, NULL);
        }
        // Whoever started this process may have blocked signals in it.
        sigset_t set;
        sigemptyset(&set);
        for (size_t i = 0; i < sizeof watched / sizeof watched[0]; i++) sigaddset(&set, watched[i]);
        sigprocmask(SIG_UNBLOCK, &set, NULL);
        installed = true;
    }
    alarm(seconds);
}
