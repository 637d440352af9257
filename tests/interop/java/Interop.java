import io.grpc.ManagedChannel;
import java.io.File;
import java.util.Locale;

/**
 * Comes in by every way as a client in Java would: by the socket, with a token, with a certificate.
 *
 * usage: Interop SOCKET ADDRESS TLS_ADDRESS CERTIFICATES
 *
 * JOBWARDEN_TOKEN opens ADDRESS, and the certificate "builder" TLS_ADDRESS. Each check prints one
 * line; the first that fails ends the run with 1.
 */
final class Interop {
    private int passed = 0;

    private interface Way {
        ManagedChannel open() throws Exception;
    }

    private interface Check {
        void run(ManagedChannel channel) throws Exception;
    }

    private Interop() {}

    /** Runs every check and ends the process. */
    public static void main(String[] arguments) {
        Interop interop = new Interop();
        int code = 0;
        try {
            interop.run(arguments[0], arguments[1], arguments[2], new File(arguments[3]));
        } catch (Throwable failure) {
            failure.printStackTrace(System.out);
            code = 1;
        }
        System.out.printf("java: %d passed, %d failed%n", interop.passed, code);
        // Threads of grpc and netty may still be there.
        System.exit(code);
    }

    private void run(String socket, String address, String tlsAddress, File folder)
            throws Exception {
        check(
                "unix",
                "the socket's path as authority is INTERNAL with PROTOCOL_ERROR",
                () -> Ways.unixByPath(socket),
                channel -> Checks.pathIsRefused(channel, socket));
        checkAll("unix", "with overrideAuthority", () -> Ways.unix(socket));

        String token = System.getenv("JOBWARDEN_TOKEN");
        check(
                "tcp",
                "without a token every call is UNAUTHENTICATED",
                () -> Ways.tcp(address),
                Checks::isDenied);
        check(
                "tcp",
                "with a wrong token every call is UNAUTHENTICATED",
                () -> Ways.tcp(address, "jw_0_0"),
                Checks::isDenied);
        checkAll("tcp", "with a token", () -> Ways.tcp(address, token));

        File authority = new File(folder, "ca.pem");
        File certificate = new File(folder, "builder.pem");
        File key = new File(folder, "builder.key");
        check(
                "tls",
                "without a certificate it does not even connect",
                () -> Ways.tls(tlsAddress, authority),
                Checks::isCutOff);
        checkAll(
                "tls",
                "with a certificate",
                () -> Ways.tls(tlsAddress, authority, certificate, key));
    }

    private void checkAll(String name, String how, Way way) throws Exception {
        check(name, how + " a job gives its bytes and its exit code", way, Checks::runsAJob);
        check(name, how + " a watch tells the end of a job", way, Checks::watchesAJob);
        check(name, how + " an error tells its reason", way, Checks::readsAnError);
    }

    private void check(String name, String promise, Way way, Check check) throws Exception {
        long begin = System.nanoTime();
        ManagedChannel channel = way.open();
        try {
            check.run(channel);
        } catch (Throwable failure) {
            System.out.printf("FAIL %-4s java: %s%n", name, promise);
            throw failure;
        } finally {
            channel.shutdownNow();
        }
        double seconds = (System.nanoTime() - begin) / 1e9;
        System.out.printf(Locale.ROOT, "ok   %-4s java: %s (%.2f s)%n", name, promise, seconds);
        passed++;
    }
}
