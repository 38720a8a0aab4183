import { CheckpointError } from '@peftjs/core';

/**
 * Bytes of memory that can still be had: of the machine, and of the container that it may be. Undefined where nobody tells, as in
 * a page.
 */
export async function freeMemory(): Promise<number | undefined> {
  try {
    const { freemem } = await import(/* @vite-ignore */ 'node:os');
    const { constrainedMemory, memoryUsage } = globalThis.process;
    // Not what the system says of a container: that takes cached files for memory in use.
    return Math.min(freemem(), Math.max(0, constrainedMemory() - memoryUsage().rss) || Infinity);
  } catch {
    return undefined;
  }
}

/** @throws CheckpointError, with both figures, when something needs more memory than there is. */
export function checkMemory(what: string, bytes: number, limit: number, path: string): void {
  if (bytes <= limit) return;
  throw new CheckpointError(
    `${path}: ${what} takes ${gigabytes(bytes)} of memory, ${gigabytes(limit)} can be had: take a smaller model or a larger machine, or pass memoryLimit if you know better`,
    path,
  );
}

/** A size as people read it. */
function gigabytes(bytes: number): string {
  return bytes < 1e7 ? `${Math.ceil(bytes)} bytes` : `${(bytes / 1e9).toFixed(2)} GB`;
}
