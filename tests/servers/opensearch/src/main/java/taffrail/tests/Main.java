package taffrail.tests;

import java.nio.file.Path;
import java.util.List;
import java.util.Map;
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

/** One OpenSearch node; see {@link TestNode}. */
public final class Main extends Node {
    private static final List<Class<? extends Plugin>> PLUGINS = List.of(
            Netty4Plugin.class,
            IngestCommonPlugin.class,
            PainlessPlugin.class,
            MapperExtrasPlugin.class,
            ReindexPlugin.class,
            CommonAnalysisPlugin.class);

    /** {@link Node}'s own constructor that takes plugin classes is for subclasses only: hence this class. */
    private Main(Environment environment) {
        super(environment, PLUGINS, false);
    }

    /** Runs the node. */
    public static void main(String[] arguments) {
        TestNode.run(arguments, "flat_object", Main::begin);
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
