import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.protobuf.Duration;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.ErrorInfo;
import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.util.Iterator;
import java.util.Random;
import java.util.concurrent.TimeUnit;
import jobwarden.v1.CancelRequest;
import jobwarden.v1.EventType;
import jobwarden.v1.ExecRequest;
import jobwarden.v1.Job;
import jobwarden.v1.JobEvent;
import jobwarden.v1.JobServiceGrpc.JobServiceBlockingStub;
import jobwarden.v1.JobServiceGrpc;
import jobwarden.v1.JobSpec;
import jobwarden.v1.JobState;
import jobwarden.v1.ListRequest;
import jobwarden.v1.LogEndReason;
import jobwarden.v1.StatusRequest;
import jobwarden.v1.TailLogRequest;
import jobwarden.v1.TailLogResponse;
import jobwarden.v1.WaitRequest;
import jobwarden.v1.WatchEventsRequest;
import jobwarden.v1.WatchEventsResponse;

/** What a client in Java relies on, over any channel. Knows nothing about how one is made. */
final class Checks {
    /** The limit of any one call: a service that hangs fails a check, it does not hang it. */
    private static final int CALL_SECONDS_MAX = 60;

    /** More than one chunk of a log and more than HTTP/2 lets through without an update. */
    private static final int OUTPUT_BYTES = 200_000;

    private static final String UNKNOWN_JOB = "0".repeat(26);

    private Checks() {}

    /** Runs a job on arbitrary bytes and reads back what it printed and how it ended. */
    static void runsAJob(ManagedChannel channel) {
        byte[] bytes = new byte[OUTPUT_BYTES];
        new Random(1).nextBytes(bytes);
        ByteString input = ByteString.copyFrom(bytes);
        JobSpec spec = JobSpec.newBuilder().setShell("cat; exit 3").setStdin(input).build();
        String id = exec(channel, spec);

        WaitRequest.Builder wait = WaitRequest.newBuilder().setJobId(id);
        wait.setTimeout(Duration.newBuilder().setSeconds(40));
        expect(stub(channel).wait(wait.build()).getEnded(), "the job did not end");

        StatusRequest status = StatusRequest.newBuilder().setJobId(id).build();
        Job job = stub(channel).status(status).getJob();
        expect(job.getState() == JobState.JOB_STATE_FAILED, "another state: " + job);
        expect(job.getExitStatus().getExitCode() == 3, "another exit code: " + job);
        expect(output(channel, id).equals(input), "another output");
    }

    /** Watches a job from before its end to its ENDED. */
    static void watchesAJob(ManagedChannel channel) {
        JobSpec spec = JobSpec.newBuilder().addArgv("sleep").addArgv("600").build();
        String id = exec(channel, spec);
        Iterator<WatchEventsResponse> watch =
                stub(channel).watchEvents(WatchEventsRequest.getDefaultInstance());
        boolean shown = false;
        WatchEventsResponse message = watch.next();
        while (!message.getBookmark().getSnapshotEnd()) {
            shown |= message.getEvent().getJob().getJobId().equals(id);
            message = watch.next();
        }
        expect(shown, "the snapshot lacks the job");

        stub(channel).cancel(CancelRequest.newBuilder().setJobId(id).build());
        JobEvent event = watch.next().getEvent();
        while (event.getType() != EventType.EVENT_TYPE_ENDED
                || !event.getJob().getJobId().equals(id)) {
            event = watch.next().getEvent();
        }
        expect(event.getJob().getState() == JobState.JOB_STATE_CANCELLED, "ended as " + event);
    }

    /** An error tells what a program can act on. */
    static void readsAnError(ManagedChannel channel) throws InvalidProtocolBufferException {
        StatusRequest request = StatusRequest.newBuilder().setJobId(UNKNOWN_JOB).build();
        StatusRuntimeException error = refused(() -> stub(channel).status(request));
        expectReason(error, Status.Code.NOT_FOUND, "JOB_NOT_FOUND");
    }

    /** Whoever is not known gets neither a reply nor a stream. */
    static void isDenied(ManagedChannel channel) throws InvalidProtocolBufferException {
        Status.Code code = Status.Code.UNAUTHENTICATED;
        TailLogRequest tail = TailLogRequest.newBuilder().setJobId(UNKNOWN_JOB).build();
        expectReason(refused(() -> list(channel)), code, "UNAUTHENTICATED");
        expectReason(refused(() -> stub(channel).tailLog(tail).next()), code, "UNAUTHENTICATED");
    }

    /** The service refuses a path as authority below gRPC, so that the error has no details. */
    static void pathIsRefused(ManagedChannel channel, String path) {
        expect(channel.authority().equals(path), "another authority: " + channel.authority());
        StatusRuntimeException error = refused(() -> list(channel));
        String text = String.valueOf(error.getStatus().getDescription());
        expect(error.getStatus().getCode() == Status.Code.INTERNAL, "another code", error);
        expect(text.contains("PROTOCOL_ERROR"), "another error", error);
        expect(StatusProto.fromThrowable(error).getDetailsCount() == 0, "has details", error);
    }

    /** A stranger's connection does not come to stand. */
    static void isCutOff(ManagedChannel channel) {
        StatusRuntimeException error = refused(() -> list(channel));
        expect(error.getStatus().getCode() == Status.Code.UNAVAILABLE, "another code", error);
    }

    private static JobServiceBlockingStub stub(ManagedChannel channel) {
        return JobServiceGrpc.newBlockingStub(channel)
                .withDeadlineAfter(CALL_SECONDS_MAX, TimeUnit.SECONDS);
    }

    private static void list(ManagedChannel channel) {
        stub(channel).list(ListRequest.getDefaultInstance());
    }

    private static String exec(ManagedChannel channel, JobSpec spec) {
        ExecRequest request = ExecRequest.newBuilder().setSpec(spec).build();
        return stub(channel).exec(request).getJob().getJobId();
    }

    private static ByteString output(ManagedChannel channel, String id) {
        TailLogRequest request = TailLogRequest.newBuilder().setJobId(id).setFollow(true).build();
        ByteString output = ByteString.EMPTY;
        TailLogResponse last = TailLogResponse.getDefaultInstance();
        Iterator<TailLogResponse> messages = stub(channel).tailLog(request);
        while (messages.hasNext()) {
            last = messages.next();
            output = output.concat(last.getChunk().getData());
        }
        LogEndReason reason = last.getEnd().getReason();
        expect(reason == LogEndReason.LOG_END_REASON_TERMINAL, "another end: " + last);
        return output;
    }

    private static StatusRuntimeException refused(Runnable call) {
        try {
            call.run();
        } catch (StatusRuntimeException error) {
            return error;
        }
        throw new AssertionError("the call succeeded");
    }

    private static void expectReason(
            StatusRuntimeException error, Status.Code code, String reason)
            throws InvalidProtocolBufferException {
        expect(error.getStatus().getCode() == code, "expected " + code, error);
        for (Any detail : StatusProto.fromThrowable(error).getDetailsList()) {
            if (detail.is(ErrorInfo.class)) {
                ErrorInfo info = detail.unpack(ErrorInfo.class);
                expect(info.getReason().equals(reason), "expected " + reason + ": " + info);
                expect(info.getDomain().equals("jobwarden.v1"), "another domain: " + info);
                return;
            }
        }
        throw new AssertionError("the error has no ErrorInfo", error);
    }

    private static void expect(boolean holds, String fault) {
        expect(holds, fault, null);
    }

    private static void expect(boolean holds, String fault, Throwable cause) {
        if (!holds) {
            throw new AssertionError(fault, cause);
        }
    }
}
