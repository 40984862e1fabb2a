package taffrail.tests.ingest;

import java.util.Map;
import org.elasticsearch.ingest.AbstractProcessor;
import org.elasticsearch.ingest.ConfigurationUtils;
import org.elasticsearch.ingest.IngestDocument;
import org.elasticsearch.ingest.Processor;
import org.elasticsearch.plugins.IngestPlugin;
import org.elasticsearch.plugins.Plugin;

/**
 * The ingest processors {@code set}, {@code convert} (to integers alone) and {@code fail} for Elasticsearch, whose own
 * are not on Maven Central: they throw the same types of exceptions with the same words. All else of a pipeline is the
 * server's.
 */
public final class Ingest extends Plugin implements IngestPlugin {
    /** What a processor does to a document. */
    private interface Deed {
        void to(IngestDocument document);
    }

    /** As the one of Elasticsearch: its name is the type of the error that a client sees. */
    private static final class FailProcessorException extends RuntimeException {
        FailProcessorException(String message) {
            super(message);
        }
    }

    @Override
    public Map<String, Processor.Factory> getProcessors(Processor.Parameters parameters) {
        return Map.of(
                "set", (all, tag, description, config) -> {
                    String field = text("set", tag, config, "field");
                    Object value = ConfigurationUtils.readObject("set", tag, config, "value");
                    return processor("set", tag, description, document -> document.setFieldValue(field, value));
                },
                "convert", (all, tag, description, config) -> {
                    String field = text("convert", tag, config, "field");
                    text("convert", tag, config, "type");
                    return processor("convert", tag, description, document -> {
                        String value = document.getFieldValue(field, Object.class).toString();
                        try {
                            document.setFieldValue(field, Integer.parseInt(value));
                        } catch (NumberFormatException error) {
                            throw new IllegalArgumentException("unable to convert [" + value + "] to integer", error);
                        }
                    });
                },
                "fail", (all, tag, description, config) -> {
                    String message = text("fail", tag, config, "message");
                    return processor("fail", tag, description, document -> {
                        throw new FailProcessorException(message);
                    });
                });
    }

    private static String text(String type, String tag, Map<String, Object> config, String key) {
        return ConfigurationUtils.readStringProperty(type, tag, config, key);
    }

    private static Processor processor(String type, String tag, String description, Deed deed) {
        return new AbstractProcessor(tag, description) {
            @Override
            public IngestDocument execute(IngestDocument document) {
                deed.to(document);
                return document;
            }

            @Override
            public String getType() {
                return type;
            }
        };
    }
}
