import ArgumentParser
import Glibc
import VMM

/// The user's terminal while it is the guest's console: every key goes to the guest.
enum Terminal {
    /// The settings to go back to; set while the terminal is raw. Only the main thread and signal handlers that end the
    /// process touch it.
    nonisolated(unsafe) private static var saved: termios?

    static func isTerminal(_ descriptor: FileDescriptor) -> Bool { isatty(descriptor.number) == 1 }

    /// Passes keys on one by one and unechoed, Ctrl-C included. Undone by `restore`, or when the process exits.
    static func makeRaw() {
        var settings = termios()
        guard saved == nil, tcgetattr(0, &settings) == 0 else { return }
        saved = settings
        atexit { Terminal.restore() }
        settings.c_lflag &= ~tcflag_t(ICANON | ECHO | ISIG | IEXTEN)
        settings.c_iflag &= ~tcflag_t(IXON | ICRNL | INLCR | IGNCR)
        tcsetattr(0, TCSANOW, &settings)
    }

    static func restore() {
        guard var settings = saved else { return }
        saved = nil
        tcsetattr(0, TCSANOW, &settings)
    }
}

/// Signals that end a run. They are noticed between slices of the run, so that the summary is still written.
enum EndingSignal {
    /// The number of the signal that came, 0 for none: a word that lives as long as the process; the handler writes it.
    nonisolated(unsafe) private static let received: UnsafeMutablePointer<sig_atomic_t> = {
        let word = UnsafeMutablePointer<sig_atomic_t>.allocate(capacity: 1)
        word.initialize(to: 0)
        return word
    }()

    static var wasReceived: Bool { received.pointee != 0 }

    /// Says what there is now that a signal has ended the work.
    static func interrupted(_ what: String) -> ExitCode {
        StandardError.say("interrupted: \(what)")
        return ExitCode(Outcome.interrupted.exitCode)
    }

    /// Takes SIGINT, SIGTERM and SIGHUP from now on. The same signal again ends the process at once.
    static func watch() {
        _ = received
        for number in [SIGINT, SIGTERM, SIGHUP] {
            var action = sigaction()
            action.__sigaction_handler.sa_handler = { EndingSignal.received.pointee = sig_atomic_t($0) }
            action.sa_flags = Int32(bitPattern: UInt32(SA_RESETHAND))
            sigaction(number, &action, nil)
        }
        // A parent may have left them blocked.
        var watched = sigset_t()
        sigemptyset(&watched)
        for number in [SIGINT, SIGTERM, SIGHUP] { sigaddset(&watched, number) }
        pthread_sigmask(SIG_UNBLOCK, &watched, nil)
    }
}

/// Host time, for limits and for the summary; no guest sees it.
enum HostClock {
    /// Seconds since some moment in the past.
    static var seconds: Double {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }
}
