package taffrail.tests;

import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.env.Environment;
import org.elasticsearch.http.HttpServerTransport;
import org.elasticsearch.index.mapper.DataStreamTimestampFieldMapper;
import org.elasticsearch.index.mapper.MapperExtrasPlugin;
import org.elasticsearch.index.mapper.MetadataFieldMapper;
import org.elasticsearch.node.InternalSettingsPreparer;
import org.elasticsearch.node.Node;
import org.elasticsearch.plugins.MapperPlugin;
import org.elasticsearch.plugins.Plugin;
import org.elasticsearch.reindex.ReindexPlugin;
import org.elasticsearch.transport.Netty4Plugin;
import taffrail.tests.ingest.Ingest;

/** One Elasticsearch 7 node; see {@link TestNode}. */
public final class Main extends Node {
    /** {@link Node}'s own constructor that takes plugin classes is for subclasses only: hence this class. */
    private Main(Environment environment) {
        super(
                environment,
                List.of(
                        Netty4Plugin.class,
                        DataStreams.class,
                        MapperExtrasPlugin.class,
                        ReindexPlugin.class,
                        Ingest.class),
                false);
    }

    /**
     * The plugin that makes data streams possible is not on Maven Central. The server holds all of them but the API
     * {@code _data_stream}; only their mapper must be registered.
     */
    public static final class DataStreams extends Plugin implements MapperPlugin {
        @Override
        public Map<String, MetadataFieldMapper.TypeParser> getMetadataMappers() {
            return Map.of(DataStreamTimestampFieldMapper.NAME, DataStreamTimestampFieldMapper.PARSER);
        }
    }

    /** Runs the node. */
    public static void main(String[] arguments) {
        TestNode.run(arguments, "flattened", Main::begin);
    }

    private static TestNode.Started begin(Path home, Map<String, String> values) throws Exception {
        Settings.Builder settings = Settings.builder();
        values.forEach(settings::put);
        Node node = new Main(InternalSettingsPreparer.prepareEnvironment(
                settings.build(), Map.of(), home.resolve("config"), () -> TestNode.NAME));
        node.start();
        var http = node.injector().getInstance(HttpServerTransport.class);
        return new TestNode.Started(node, http.boundAddress().publishAddress().address().getPort());
    }
}
