/**
 * Returns the available memory in bytes, within the limits of the machine and of a container. Undefined if unknown,
 * e.g. in a web page.
 */
export async function freeMemory(): Promise<number | undefined> {
  try {
    const { freemem } = await import(/* @vite-ignore */ 'node:os');
    const { constrainedMemory, memoryUsage } = globalThis.process;
    // Not the system's own figure for containers, which counts cached files as memory in use.
    return Math.min(freemem(), Math.max(0, constrainedMemory() - memoryUsage().rss) || Infinity);
  } catch {
    return undefined;
  }
}
