import type { Peak } from './peak.js';

/** Both rates of a machine, in words. */
export function peakText({ fp32Gflops, int8Gops }: Peak): string {
  return `${fp32Gflops.toFixed(0)} GFLOP/s in float32, ${int8Gops.toFixed(0)} GOP/s in 8 bits`;
}
