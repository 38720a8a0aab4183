import { nodeModule } from './node.js';

/**
 * Returns the available memory in bytes, within the limits of the machine and of a container. Undefined if unknown,
 * e.g. in a web page.
 */
export function freeMemory(): number | undefined {
  const os = nodeModule('node:os') as typeof import('node:os') | undefined;
  if (!os) return undefined;
  const { constrainedMemory, memoryUsage } = globalThis.process;
  // macOS leaves hardly any memory unused, and gives up what holds cached files when it is needed.
  const free = globalThis.process.platform === 'darwin' ? Math.max(os.freemem(), os.totalmem() / 2) : os.freemem();
  // Not the system's own figure for containers, which counts cached files as memory in use.
  return Math.min(free, Math.max(0, constrainedMemory() - memoryUsage().rss) || Infinity);
}
