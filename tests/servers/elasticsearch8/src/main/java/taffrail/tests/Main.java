package taffrail.tests;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.Set;
import org.elasticsearch.common.logging.LogConfigurator;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.http.HttpServerTransport;
import org.elasticsearch.node.InternalSettingsPreparer;
import org.elasticsearch.node.Node;
import org.elasticsearch.plugins.PluginsLoader;

/**
 * One Elasticsearch 8 node; see {@link TestNode}. It has neither {@code GET /} nor the API {@code _data_stream}: both
 * come with modules that are not on Maven Central. Data streams themselves work.
 */
public final class Main {
    private Main() {}

    /** Runs the node. */
    public static void main(String[] arguments) {
        TestNode.run(arguments, "flattened", Main::begin);
    }

    private static TestNode.Started begin(Path home, Map<String, String> values) throws Exception {
        LogConfigurator.configureESLogging();
        // This version takes no plugin classes: modules are loaded from a folder of the home, each by a loader of its
        // own. What was built has that folder beside its library.
        Path built = Path.of(Main.class.getProtectionDomain().getCodeSource().getLocation().toURI()).getParent();
        Path modules = home.resolve("modules");
        if (!Files.exists(modules)) {
            Files.createSymbolicLink(modules, built.resolve("modules"));
        }
        Settings.Builder settings = Settings.builder();
        values.forEach(settings::put);
        var environment = InternalSettingsPreparer.prepareEnvironment(
                settings.build(), Map.of(), home.resolve("config"), () -> TestNode.NAME);
        Node node = new Node(
                environment,
                PluginsLoader.createPluginsLoader(
                        PluginsLoader.loadModulesBundles(modules), Set.of(), Map.of(), false));
        node.start();
        var http = node.injector().getInstance(HttpServerTransport.class);
        return new TestNode.Started(node, http.boundAddress().publishAddress().address().getPort());
    }
}
