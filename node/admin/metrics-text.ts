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
  for (const { name, help, type, samples } of metrics) {
    const labelNames = [...new Set(samples.flatMap((sample) => Object.keys(sample.labels ?? {})))];
    const options = { name, help, labelNames, registers: [registry] };
    if (type === "counter") {
      const counter = new prom.Counter(options);
      for (const { labels, value } of samples) counter.inc(labels ?? {}, value);
    } else {
      const gauge = new prom.Gauge(options);
      for (const { labels, value } of samples) gauge.set(labels ?? {}, value);
    }
  }
  return { text: await registry.metrics(), contentType: registry.contentType };
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
    counter("sluice_proxy_retries_total", "Requests sent again because a kept connection had gone stale", single("retries")),
    { name: "sluice_proxy_active_requests", help: "Requests running now", type: "gauge", samples: single("active") },
  ];
}

function objectOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
}

function countsOf(value: unknown): Counts {
  return Object.fromEntries(Object.entries(objectOf(value)).filter((entry): entry is [string, number] => typeof entry[1] === "number" && entry[1] >= 0));
}
