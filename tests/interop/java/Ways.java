import io.grpc.ChannelCredentials;
import io.grpc.Grpc;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.TlsChannelCredentials;
import io.grpc.netty.NettyChannelBuilder;
import io.grpc.stub.MetadataUtils;
import io.netty.channel.nio.NioEventLoopGroup;
import io.netty.channel.unix.DomainSocketAddress;
import java.io.File;
import java.io.IOException;

/** The ways in, as docs/SECURITY.md shows them. */
final class Ways {
    private Ways() {}

    /** The Unix socket, with the authority that the service takes. */
    static ManagedChannel unix(String path) {
        return unixBuilder(path).overrideAuthority("localhost").build();
    }

    /** The Unix socket, with the authority that grpc makes of its path. */
    static ManagedChannel unixByPath(String path) {
        return unixBuilder(path).build();
    }

    private static NettyChannelBuilder unixBuilder(String path) {
        return NettyChannelBuilder.forAddress(new DomainSocketAddress(path))
                .channelType(NioUnixChannel.class)
                .eventLoopGroup(new NioEventLoopGroup(1))
                .usePlaintext();
    }

    /** Loopback TCP as somebody without a token. */
    static ManagedChannel tcp(String address) {
        return NettyChannelBuilder.forTarget(address).usePlaintext().build();
    }

    /** Loopback TCP with a token in every call. */
    static ManagedChannel tcp(String address, String token) {
        Metadata headers = new Metadata();
        Metadata.Key<String> key =
                Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
        headers.put(key, "Bearer " + token);
        return NettyChannelBuilder.forTarget(address)
                .usePlaintext()
                .intercept(MetadataUtils.newAttachHeadersInterceptor(headers))
                .build();
    }

    /** TLS as somebody without a certificate. */
    static ManagedChannel tls(String address, File authority) throws IOException {
        ChannelCredentials tls = TlsChannelCredentials.newBuilder().trustManager(authority).build();
        return Grpc.newChannelBuilder(address, tls).build();
    }

    /** TLS with a certificate of our own. */
    static ManagedChannel tls(String address, File authority, File certificate, File key)
            throws IOException {
        ChannelCredentials tls =
                TlsChannelCredentials.newBuilder()
                        .trustManager(authority)
                        .keyManager(certificate, key)
                        .build();
        return Grpc.newChannelBuilder(address, tls).build();
    }
}
