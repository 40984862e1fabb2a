package taffrail.tests;

import java.io.Closeable;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;

/**
 * One real search server on loopback, for the tests: what all of them have in common. Each server's own {@code Main}
 * brings only how its node is made.
 *
 * <p>Arguments: {@code HOME [--rehearse] [setting=value ...]}. {@code HOME} holds the node's data; it is made if it is
 * not there and is removed when the node ends by itself (so a killed one can be started again on what it had).
 * {@code http.port} is by default one that the system picks.
 *
 * <p>Once the node takes requests it writes one line to standard output, {@code ready http://127.0.0.1:PORT}; its log
 * goes to standard error. It ends, with status 0, at the end of its standard input (so it cannot outlive the test that
 * started it, however that dies) or on SIGTERM. With {@code --rehearse} it sends itself what a test would send and then
 * ends: that run is what the class-data archive is made from.
 *
 * <p>Exit status 2 for wrong arguments, 1 if the node does not start; the reason is on standard error.
 */
final class TestNode {
    /** The node's name in its own settings and log. */
    static final String NAME = "test-node";

    /** Makes a node in a home, which exists with its {@code config} folder, and starts it. */
    interface Starter {
        Started start(Path home, Map<String, String> settings) throws Exception;
    }

    /** A node that takes requests at a port, and how it is ended. */
    record Started(Closeable node, int port) {}

    private TestNode() {}

    /**
     * Starts the node, says where it listens, and waits for the end of standard input. Does not return.
     *
     * @param flatType what the server calls the field type that holds an object of any shape, for the rehearsal
     */
    static void run(String[] arguments, String flatType, Starter starter) {
        if (arguments.length == 0) {
            System.err.println("usage: Main HOME [--rehearse] [setting=value ...]");
            System.exit(2);
        }
        Path home = Path.of(arguments[0]).toAbsolutePath();
        boolean rehearse = false;
        Map<String, String> settings = defaults(home);
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
            Files.createDirectories(home.resolve("config"));
            Started started = starter.start(home, settings);
            Runtime.getRuntime().addShutdownHook(new Thread(() -> end(started.node(), home)));
            URI address = URI.create("http://127.0.0.1:" + started.port());
            System.out.println("ready " + address);
            if (rehearse) {
                rehearse(address, flatType);
            } else {
                while (System.in.read() != -1) {
                    // Nothing is said to us this way: only the end counts.
                }
            }
        } catch (Throwable error) {
            // Errors too: a missing class would else leave the node's threads running without a word.
            error.printStackTrace();
            System.exit(1);
        }
        System.exit(0);
    }

    private static Map<String, String> defaults(Path home) {
        Map<String, String> settings = new HashMap<>();
        settings.put("path.home", home.toString());
        settings.put("cluster.name", "taffrail-tests");
        settings.put("node.name", NAME);
        settings.put("discovery.type", "single-node");
        settings.put("network.host", "127.0.0.1");
        settings.put("http.port", "0");
        settings.put("transport.port", "0");
        settings.put("http.type", "netty4");
        settings.put("transport.type", "netty4");
        // A test deletes its own indices by their common prefix; Elasticsearch 8 forbids that by default.
        settings.put("action.destructive_requires_name", "false");
        // A developer's disk is often over 85% full, which would make every index read-only.
        settings.put("cluster.routing.allocation.disk.threshold_enabled", "false");
        return settings;
    }

    private static void end(Closeable node, Path home) {
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

    /** A template, a data stream, a bulk and a search: the classes that every test needs. */
    private static void rehearse(URI address, String flatType) throws Exception {
        String template = "{\"index_patterns\":[\"rehearsal-*\"],\"data_stream\":{},\"priority\":300,\"template\":{"
                + "\"settings\":{\"number_of_replicas\":0},\"mappings\":{\"properties\":{"
                + "\"@timestamp\":{\"type\":\"date_nanos\"},\"app\":{\"type\":\"" + flatType + "\"}}}}}";
        String item = "{\"create\":{\"_id\":\"1\"}}\n"
                + "{\"@timestamp\":\"2026-11-23T00:00:00.000000001Z\",\"message\":\"hello\",\"app\":{\"n\":1}}\n";
        send(address, "GET", "/_cluster/health?wait_for_status=yellow&timeout=60s", "");
        send(address, "PUT", "/_index_template/rehearsal", template);
        send(address, "POST", "/rehearsal-1/_bulk?refresh=true", item + item);
        send(address, "POST", "/rehearsal-1/_search?scroll=1m", "{\"size\":10,\"sort\":[\"_doc\"]}");
        send(address, "POST", "/rehearsal-1/_rollover", "");
        send(address, "GET", "/rehearsal-1/_count", "");
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
