/**
 * `GET /metrics`: the engine's numbers, the process's own, and the proxy's counters, as Prometheus text.
 *
 * Always holds: nothing is kept between two scrapes, and the library is loaded with the first one, so that a node that nobody scrapes pays
 * nothing. All names begin with `sluice_`.
 */
import type { Registry } from "prom-client";
import type { Metric } from "./status.ts";

export async function renderMetrics(metrics: readonly Metric[]): Promise<{ readonly text: string; readonly contentType: string }> {
  const { default: prom } = await import("prom-client");
  const registry: Registry = new prom.Registry();
  const histograms: string[] = [];
  for (const { name, help, type, samples } of metrics) {
    const labelNames = [...new Set(samples.flatMap((sample) => Object.keys(sample.labels ?? {})))];
    const options = { name, help, labelNames, registers: [registry] };
    if (type === "counter") {
      const counter = new prom.Counter(options);
      for (const { labels, value } of samples) counter.inc(labels ?? {}, value);
    } else if (type === "histogram") {
      // The library can only observe; what arrives here has been counted elsewhere, so the family is written as it prints one.
      histograms.push(histogramText(name, help, samples));
    } else {
      const gauge = new prom.Gauge(options);
      for (const { labels, value } of samples) gauge.set(labels ?? {}, value);
    }
  }
  return { text: [(await registry.metrics()).trimEnd(), ...histograms, ""].join("\n"), contentType: registry.contentType };
}

/** A histogram whose samples are its lines already: labels without `part`, which says what the line is called. */
function histogramText(name: string, help: string, samples: Metric["samples"]): string {
  const lines = samples.map(({ labels = {}, value }) => {
    const { part = "bucket", ...rest } = labels;
    const text = Object.entries(rest).map(([label, one]) => `${label}="${one.replace(/[\\"\n]/g, (char) => (char === "\n" ? "\\n" : `\\${char}`))}"`).join(",");
    return `${name}_${part}${text === "" ? "" : `{${text}}`} ${value}`;
  });
  return [`# HELP ${name} ${help}`, `# TYPE ${name} histogram`, ...lines].join("\n");
}

/** Memory and processor time of this process, under its part's name ("engine"). */
export function processMetrics(part: string): Metric[] {
  const memory = process.memoryUsage();
  const usage = process.cpuUsage();
  const gauge = (name: string, help: string, value: number): Metric => ({ name, help, type: "gauge", samples: [{ labels: { part }, value }] });
  return [
    gauge("sluice_process_resident_bytes", "Resident memory of the process", memory.rss),
    gauge("sluice_process_heap_bytes", "JavaScript heap in use", memory.heapUsed),
    { name: "sluice_process_cpu_seconds_total", help: "Processor time used", type: "counter", samples: [{ labels: { part }, value: (usage.user + usage.system) / 1e6 }] },
    gauge("sluice_process_uptime_seconds", "Time since the process started", process.uptime()),
  ];
}

type Counts = Readonly<Record<string, number>>;

/**
 * The proxy's counters as metrics. What arrives has crossed a process boundary, so anything that is not a number in its place is left out.
 */
export function proxyMetrics(snapshot: unknown): Metric[] {
  const fields = objectOf(snapshot);
  const waits = countsOf(fields["waits"]);
  const requests = Object.entries(objectOf(fields["requests"])).flatMap(([decision, byStatus]) =>
    Object.entries(countsOf(byStatus)).map(([status, value]) => ({ labels: { decision, status }, value })));
  const by = (label: string, counts: Counts) => Object.entries(counts).map(([key, value]) => ({ labels: { [label]: key }, value }));
  const single = (key: string) => (typeof fields[key] === "number" ? [{ value: fields[key] }] : []);
  const counter = (name: string, help: string, samples: Metric["samples"]): Metric => ({ name, help, type: "counter", samples });
  return [
    counter("sluice_proxy_requests_total", "Requests answered, by decision and status (0: the client went away)", requests),
    counter("sluice_proxy_invalid_requests_total", "Requests refused before any decision, by reason", by("reason", countsOf(fields["invalid"]))),
    counter("sluice_proxy_waits_total", "Reads that waited for their position, by outcome", by("outcome", { reached: waits["reached"] ?? 0, overdue: waits["overdue"] ?? 0 })),
    counter("sluice_proxy_wait_seconds_total", "Time that reads have waited for their position", [{ value: (waits["totalMs"] ?? 0) / 1_000 }]),
    counter("sluice_proxy_upstream_errors_total", "Failures of the application or of another proxy, by code", by("code", countsOf(fields["upstreamErrors"]))),
    counter("sluice_proxy_node_requests_total", "Requests answered, by the node whose application answered", by("node", countsOf(fields["nodes"]))),
    { name: "sluice_proxy_latency_seconds", help: "From a request to the head of its response, by decision", type: "histogram", samples: latencySamples(fields["latency"]) },
    counter("sluice_proxy_wait_reasons_total", "Requests that waited, by why", by("reason", countsOf(fields["waitReasons"]))),
    counter("sluice_proxy_holds_total", "Requests held for a primary or an application, by why", by("reason", countsOf(objectOf(fields["holds"])["reasons"]))),
    counter("sluice_proxy_holds_overdue_total", "Held requests whose time ran out", [{ value: countsOf(fields["holds"])["overdue"] ?? 0 }]),
    { name: "sluice_proxy_held_requests", help: "Requests held now", type: "gauge", samples: [{ value: countsOf(fields["holds"])["now"] ?? 0 }] },
    counter("sluice_proxy_resends_total", "Requests sent again, by why that was safe", by("reason", countsOf(fields["resends"]))),
    counter("sluice_proxy_replays_total", "Requests that an application handed to the primary", single("replays")),
    { name: "sluice_proxy_upstream_connections", help: "Connections to the application and to other proxies, and requests that wait for one", type: "gauge", samples: by("kind", countsOf(fields["pool"])) },
    { name: "sluice_proxy_tunnels", help: "Upgraded connections", type: "gauge", samples: single("tunnels") },
    { name: "sluice_proxy_clients", help: "Clients without cookies that are remembered", type: "gauge", samples: single("clients") },
    { name: "sluice_proxy_active_requests", help: "Requests running now", type: "gauge", samples: single("active") },
  ];
}

/** Bounds in milliseconds of the proxy's latency counts; the last count is of what took longer. */
const LATENCY_BOUNDS_MS = [1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000];

function latencySamples(latency: unknown): Metric["samples"] {
  return Object.entries(objectOf(latency)).flatMap(([decision, histogram]) => {
    const { counts, sumMs } = objectOf(histogram);
    if (!Array.isArray(counts) || counts.length !== LATENCY_BOUNDS_MS.length + 1 || !counts.every((count) => typeof count === "number") || typeof sumMs !== "number") return [];
    let sum = 0;
    const buckets = counts.map((count: number, index) => ({ labels: { decision, le: index < LATENCY_BOUNDS_MS.length ? String(LATENCY_BOUNDS_MS[index]! / 1_000) : "+Inf" }, value: (sum += count) }));
    return [...buckets, { labels: { decision, part: "sum" }, value: sumMs / 1_000 }, { labels: { decision, part: "count" }, value: sum }];
  });
}

/** Requests a second by decision, as the proxy counts them; undefined without a proxy. */
export function proxyRates(snapshot: unknown): Readonly<Record<string, number>> | undefined {
  return snapshot === undefined ? undefined : countsOf(objectOf(snapshot)["rates"]);
}

function objectOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
}

function countsOf(value: unknown): Counts {
  return Object.fromEntries(Object.entries(objectOf(value)).filter((entry): entry is [string, number] => typeof entry[1] === "number" && entry[1] >= 0));
}
