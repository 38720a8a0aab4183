import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';

/** The features that decide which kernels compute a product, and so how it is rounded. */
const FEATURES = ['avx2', 'avx512f', 'avx512_vnni', 'avx512_bf16', 'amx_int8'];

/** The processor of this machine and the features that its kernels depend on, e.g. `AMD EPYC (avx2 avx512f)`. */
export function processorName(): string {
  const [model = 'unknown', flags = ''] = [cpus()[0]?.model.trim(), linuxFlags()];
  const found = FEATURES.filter((feature) => flags.split(' ').includes(feature));
  return found.length === 0 ? model : `${model} (${found.join(' ')})`;
}

/** The processor's flags; undefined where there is no /proc/cpuinfo. */
function linuxFlags(): string | undefined {
  try {
    return /^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1];
  } catch {
    return undefined;
  }
}
