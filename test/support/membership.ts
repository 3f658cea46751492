/** Nodes that join a running test cluster later, and leave it before its end. What is started is taken down with the cluster at the latest. */
import { TestNode, type TestCluster } from "./cluster.ts";
import { freePorts } from "./ports.ts";

/** A further follower, not started yet. Its data folder is empty unless the test fills it. */
export async function addNode(cluster: TestCluster, name: string, options: { extra?: string; primaryPort?: number } = {}): Promise<TestNode> {
  const [listen, admin, proxy, app] = (await freePorts(4)) as [number, number, number, number];
  const node = new TestNode(name, cluster.folder, { listen, admin, proxy, app }, options.primaryPort ?? cluster.nodes[0]!.ports.listen, options.extra ?? "");
  cluster.nodes.push(node);
  return node;
}

/** Stops a node and takes it out of the cluster. */
export async function removeNode(cluster: TestCluster, node: TestNode): Promise<void> {
  if (node.process !== undefined) await node.stop();
  cluster.nodes.splice(cluster.nodes.indexOf(node), 1);
}
