import io.netty.buffer.ByteBuf;
import io.netty.channel.ChannelConfig;
import io.netty.channel.ChannelException;
import io.netty.channel.ChannelFuture;
import io.netty.channel.ChannelOption;
import io.netty.channel.DefaultChannelConfig;
import io.netty.channel.FileRegion;
import io.netty.channel.nio.AbstractNioByteChannel;
import io.netty.channel.unix.DomainSocketAddress;
import java.io.IOException;
import java.net.SocketAddress;
import java.net.StandardProtocolFamily;
import java.net.UnixDomainSocketAddress;
import java.nio.channels.SelectionKey;
import java.nio.channels.SocketChannel;

/**
 * A client's channel over the Unix sockets that the JDK has had since version 16.
 *
 * It stands where netty's EpollDomainSocketChannel does, which needs a native library that Debian
 * does not have. It binds no address and closes both directions at once.
 */
public final class NioUnixChannel extends AbstractNioByteChannel {
    private final ChannelConfig config =
            new DefaultChannelConfig(this) {
                @Override
                public <T> boolean setOption(ChannelOption<T> option, T value) {
                    // grpc asks every channel for it; only TCP has it.
                    return option == ChannelOption.SO_KEEPALIVE || super.setOption(option, value);
                }
            };
    private final SocketChannel socket;

    /** Opens a channel that is not connected; netty calls this. */
    public NioUnixChannel() {
        this(open());
    }

    private NioUnixChannel(SocketChannel socket) {
        super(null, socket);
        this.socket = socket;
    }

    private static SocketChannel open() {
        try {
            return SocketChannel.open(StandardProtocolFamily.UNIX);
        } catch (IOException error) {
            throw new ChannelException("cannot open a Unix socket", error);
        }
    }

    @Override
    public ChannelConfig config() {
        return config;
    }

    @Override
    public boolean isActive() {
        return socket.isOpen() && socket.isConnected();
    }

    @Override
    protected boolean doConnect(SocketAddress remote, SocketAddress local) throws IOException {
        String path = ((DomainSocketAddress) remote).path();
        boolean connected = socket.connect(UnixDomainSocketAddress.of(path));
        if (!connected) {
            selectionKey().interestOps(SelectionKey.OP_CONNECT);
        }
        return connected;
    }

    @Override
    protected void doFinishConnect() throws IOException {
        socket.finishConnect();
    }

    @Override
    protected int doReadBytes(ByteBuf buffer) throws IOException {
        var handle = unsafe().recvBufAllocHandle();
        handle.attemptedBytesRead(buffer.writableBytes());
        return buffer.writeBytes(socket, handle.attemptedBytesRead());
    }

    @Override
    protected int doWriteBytes(ByteBuf buffer) throws IOException {
        return buffer.readBytes(socket, buffer.readableBytes());
    }

    @Override
    protected long doWriteFileRegion(FileRegion region) throws IOException {
        return region.transferTo(socket, region.transferred());
    }

    @Override
    protected ChannelFuture shutdownInput() {
        return close();
    }

    @Override
    protected void doBind(SocketAddress local) {
        throw new UnsupportedOperationException("a client's channel is not bound");
    }

    @Override
    protected void doDisconnect() throws Exception {
        doClose();
    }

    @Override
    protected void doClose() throws Exception {
        super.doClose();
        socket.close();
    }

    @Override
    protected SocketAddress localAddress0() {
        return null;
    }

    @Override
    protected SocketAddress remoteAddress0() {
        try {
            return socket.getRemoteAddress();
        } catch (IOException closed) {
            return null;
        }
    }
}
