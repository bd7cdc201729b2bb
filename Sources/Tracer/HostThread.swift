import Glibc

/// A thread of the host that does one thing. Signals stay with the others.
final class HostThread {
    private var thread = pthread_t()

    private final class Body {
        let run: () -> Void
        init(_ run: @escaping () -> Void) { self.run = run }
    }

    /// Starts a thread that runs `body`. What `body` holds is held until it has ended.
    init(_ body: @escaping () -> Void) {
        var all = sigset_t()
        var old = sigset_t()
        sigfillset(&all)
        pthread_sigmask(SIG_BLOCK, &all, &old)
        let context = Unmanaged.passRetained(Body(body)).toOpaque()
        let result = pthread_create(
            &thread, nil,
            { argument in
                guard let argument else { return nil }
                Unmanaged<Body>.fromOpaque(argument).takeRetainedValue().run()
                return nil
            }, context)
        pthread_sigmask(SIG_SETMASK, &old, nil)
        precondition(result == 0, "no thread can be started")
    }

    /// Waits until it has ended; to be called once.
    func join() { pthread_join(thread, nil) }
}
