package taffrail.tests;

import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.opensearch.analysis.common.CommonAnalysisPlugin;
import org.opensearch.common.settings.Settings;
import org.opensearch.env.Environment;
import org.opensearch.http.HttpServerTransport;
import org.opensearch.index.mapper.MapperExtrasPlugin;
import org.opensearch.index.reindex.ReindexPlugin;
import org.opensearch.ingest.common.IngestCommonPlugin;
import org.opensearch.node.InternalSettingsPreparer;
import org.opensearch.node.Node;
import org.opensearch.painless.PainlessPlugin;
import org.opensearch.plugins.Plugin;
import org.opensearch.transport.Netty4Plugin;

/**
 * One real OpenSearch node on loopback, for the tests.
 *
 * <p>Arguments: {@code HOME [--rehearse] [setting=value ...]}. {@code HOME} holds the node's data; it is made if it is
 * not there and is removed when the node ends. {@code http.port} is by default one that the system picks.
 *
 * <p>Once the node takes requests it writes one line to standard output, {@code ready http://127.0.0.1:PORT}; its log
 * goes to standard error. It ends, with status 0, at the end of its standard input (so it cannot outlive the test that
 * started it, however that dies) or on SIGTERM. With {@code --rehearse} it sends itself what a test would send and then
 * ends: that run is what the class-data archive is made from.
 *
 * <p>Exit status 2 for wrong arguments, 1 if the node does not start; the reason is on standard error.
 */
public final class OpenSearchNode extends Node {
    private static final String NAME = "test-node";

    /** {@link Node}'s own constructor that takes plugin classes is for subclasses only: hence this class. */
    private OpenSearchNode(Environment environment, List<Class<? extends Plugin>> plugins) {
        super(environment, plugins, false);
    }

    /** Starts the node, says where it listens, and waits for the end of standard input. */
    public static void main(String[] arguments) {
        if (arguments.length == 0) {
            System.err.println("usage: OpenSearchNode HOME [--rehearse] [setting=value ...]");
            System.exit(2);
        }
        Path home = Path.of(arguments[0]).toAbsolutePath();
        boolean rehearse = false;
        Settings.Builder settings = defaults(home);
        for (String argument : List.of(arguments).subList(1, arguments.length)) {
            int equals = argument.indexOf('=');
            if (argument.equals("--rehearse")) {
                rehearse = true;
            } else if (equals > 0) {
                settings.put(argument.substring(0, equals), argument.substring(equals + 1));
            } else {
                System.err.println("not of the form setting=value: " + argument);
                System.exit(2);
            }
        }
        try {
            URI address = start(home, settings.build());
            System.out.println("ready " + address);
            if (rehearse) {
                rehearse(address);
            } else {
                while (System.in.read() != -1) {
                    // Nothing is said to us this way: only the end counts.
                }
            }
        } catch (Exception error) {
            error.printStackTrace();
            System.exit(1);
        }
        System.exit(0);
    }

    private static Settings.Builder defaults(Path home) {
        return Settings.builder()
                .put("path.home", home)
                .put("cluster.name", "taffrail-tests")
                .put("node.name", NAME)
                .put("discovery.type", "single-node")
                .put("network.host", "127.0.0.1")
                .put("http.port", "0")
                .put("transport.port", "0")
                .put("http.type", "netty4")
                .put("transport.type", "netty4")
                // A developer's disk is often over 85% full, which would make every index read-only.
                .put("cluster.routing.allocation.disk.threshold_enabled", false);
    }

    private static URI start(Path home, Settings settings) throws Exception {
        Path config = Files.createDirectories(home.resolve("config"));
        Environment environment = InternalSettingsPreparer.prepareEnvironment(settings, Map.of(), config, () -> NAME);
        Node node = new OpenSearchNode(
                environment,
                List.of(
                        Netty4Plugin.class,
                        IngestCommonPlugin.class,
                        PainlessPlugin.class,
                        MapperExtrasPlugin.class,
                        ReindexPlugin.class,
                        CommonAnalysisPlugin.class));
        Runtime.getRuntime().addShutdownHook(new Thread(() -> end(node, home)));
        node.start();
        InetSocketAddress bound = node.injector()
                .getInstance(HttpServerTransport.class)
                .boundAddress()
                .publishAddress()
                .address();
        return URI.create("http://127.0.0.1:" + bound.getPort());
    }

    private static void end(Node node, Path home) {
        try {
            node.close();
        } catch (IOException error) {
            error.printStackTrace();
        }
        try (Stream<Path> files = Files.walk(home)) {
            // Deepest first: a folder must be empty to go.
            files.sorted(Comparator.reverseOrder()).forEach(file -> file.toFile().delete());
        } catch (IOException error) {
            error.printStackTrace();
        }
    }

    /** A template, a data stream, a bulk, a search and a deletion: the classes that every test needs. */
    private static void rehearse(URI address) throws Exception {
        String template = "{\"index_patterns\":[\"rehearsal-*\"],\"data_stream\":{},\"priority\":300,\"template\":{"
                + "\"settings\":{\"number_of_replicas\":0},\"mappings\":{\"properties\":{"
                + "\"@timestamp\":{\"type\":\"date_nanos\"},\"app\":{\"type\":\"flat_object\"}}}}}";
        String item = "{\"create\":{\"_id\":\"1\"}}\n"
                + "{\"@timestamp\":\"2026-11-23T00:00:00.000000001Z\",\"message\":\"hello\",\"app\":{\"n\":1}}\n";
        send(address, "GET", "/_cluster/health?wait_for_status=yellow&timeout=60s", "");
        send(address, "PUT", "/_index_template/rehearsal", template);
        send(address, "POST", "/rehearsal-1/_bulk?refresh=true", item + item);
        send(address, "POST", "/rehearsal-1/_search?scroll=1m", "{\"size\":10,\"sort\":[\"_doc\"]}");
        send(address, "GET", "/rehearsal-1/_count", "");
        send(address, "DELETE", "/_data_stream/rehearsal-1", "");
    }

    private static void send(URI address, String method, String path, String body) throws Exception {
        HttpRequest request = HttpRequest.newBuilder(address.resolve(path))
                .header("content-type", path.contains("_bulk") ? "application/x-ndjson" : "application/json")
                .method(method, HttpRequest.BodyPublishers.ofString(body))
                .build();
        HttpResponse<String> reply = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
        if (reply.statusCode() >= 300) {
            throw new IllegalStateException(method + " " + path + ": " + reply.statusCode() + " " + reply.body());
        }
    }
}
