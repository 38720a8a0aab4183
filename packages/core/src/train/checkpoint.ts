import type { AdapterLayers } from '../contracts/method.js';
import type { HostTensors } from '../tensors.js';

/** An adapter as it stood after a step. */
export interface Checkpoint {
  readonly step: number;
  readonly layers: AdapterLayers;
  readonly values: HostTensors;
  /** Metrics on the selection data; empty without any. */
  readonly metrics: Readonly<Record<string, number>>;
  readonly storedParameters: number;
  readonly ranks: Readonly<Record<string, number>>;
}
