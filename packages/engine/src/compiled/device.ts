/**
 * The memory of a GPU. An uploaded tensor stays on the host at first, e.g. a batch or the scalars of a step. When it is
 * passed to a run a second time, e.g. a frozen weight, it moves to the device and is read there from then on. Outputs
 * of a run stay on the device, except small tensors (loss, norms), which come straight to the host.
 *
 * ONNX Runtime for Node can hold such tensors (`preferredOutputLocation: 'gpu-buffer'`, and as inputs), but can neither
 * create nor read them. A graph that only copies does both: its input or its output is on the host.
 */
import type { InferenceSession } from 'onnxruntime-common';
import type { ElementType } from './parts.js';
import type { ModelPort } from './onnx.js';
import { copyGraph, openGraph, providerName } from './runtime.js';
import type { ExecutionProvider, OrtRuntime, OrtSession, OrtTensor } from './runtime.js';

type Location = 'cpu' | 'gpu-buffer';

/** The memory of one executor's device. */
export interface DeviceMemory {
  /** Opens the device. @throws EngineError when the provider does not start here. */
  open(): Promise<void>;
  /** Returns what a run reads for a value: the value itself, or its copy on the device. */
  operand(value: OrtTensor): Promise<OrtTensor>;
  /** Returns where a run leaves its outputs, by their names. */
  locations(outputs: readonly ModelPort[]): Record<string, Location>;
  /** Returns a value on the host: itself, or a copy. */
  onHost(value: OrtTensor): Promise<OrtTensor>;
  /** Frees the device copy of a host value. */
  release(value: OrtTensor): void;
}

/** Providers whose tensors ONNX Runtime's JavaScript API can hold. */
const WITH_MEMORY: readonly string[] = ['webgpu'];

/** Tensors of up to this many elements are copied with every run. */
const SMALL = 256;

/** Whether a provider has memory of its own that values can stay in. */
export function hasMemory(provider: ExecutionProvider): boolean {
  return WITH_MEMORY.includes(providerName(provider));
}

/**
 * Creates the memory of the device that the providers compute on. One session stays open for as long as the memory is
 * in use: when the last session closes, ONNX Runtime frees the device, the tensors on it and its compiled shaders.
 */
export function deviceMemory(
  runtime: () => Promise<OrtRuntime>,
  executionProviders: readonly ExecutionProvider[],
): DeviceMemory {
  const seen = new WeakSet<OrtTensor>();
  const resident = new WeakMap<OrtTensor, Promise<OrtTensor>>();
  const copiers = new Map<string, Promise<OrtSession>>();

  const copier = (to: Location, dtype: ElementType, rank: number): Promise<OrtSession> => {
    const key = `${to} ${dtype} ${rank}`;
    const options = { ...COPYING, executionProviders, preferredOutputLocation: to };
    const opened = copiers.get(key) ?? runtime().then((ort) => openGraph(ort, copyGraph(dtype, rank), options));
    copiers.set(key, opened);
    return opened;
  };
  const copied = async (value: OrtTensor, to: Location): Promise<OrtTensor> => {
    const session = await copier(to, value.type as ElementType, value.dims.length);
    const { y } = await session.run({ x: value });
    return y as OrtTensor;
  };

  return {
    async open() {
      await copier('gpu-buffer', 'float32', 1);
    },
    async operand(value) {
      if (value.location !== 'cpu' || isSmall(value.dims)) return value;
      if (!seen.has(value)) {
        seen.add(value);
        return value;
      }
      const copy = resident.get(value) ?? copied(value, 'gpu-buffer');
      resident.set(value, copy);
      return copy;
    },
    locations: (outputs) =>
      Object.fromEntries(outputs.map(({ name, shape }) => [name, isSmall(shape) ? 'cpu' : 'gpu-buffer'])),
    onHost: async (value) => (value.location === 'cpu' ? value : copied(value, 'cpu')),
    release(value) {
      const copy = resident.get(value);
      resident.delete(value);
      copy?.then((tensor) => tensor.dispose()).catch(() => undefined); // a copy that failed holds nothing
    },
  };
}

const COPYING: InferenceSession.SessionOptions = {
  // Optimization would remove the only node of a graph that just copies.
  graphOptimizationLevel: 'disabled',
  logSeverityLevel: 4,
};

/** Whether a tensor is copied with every run; tensors whose size differs from run to run are not. */
function isSmall(shape: readonly (number | string)[]): boolean {
  return shape.reduce<number>((size, dim) => size * (typeof dim === 'number' ? dim : Infinity), 1) <= SMALL;
}
