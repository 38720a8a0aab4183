/**
 * Memory of a GPU. What a program uploads stays on the host at first: a batch, the scalars of a step. What it gives to a run a
 * second time, e.g. a frozen weight, moves to the device and is read there from then on; what a run returns stays there. Only
 * small tensors are not worth a place: loss and norms come straight to the host.
 *
 * ONNX Runtime for Node can hold such tensors (`preferredOutputLocation: 'gpu-buffer'`, and as inputs), but neither make nor read
 * them: both are done by a graph that copies, whose input or output lies on the host.
 */
import type { InferenceSession } from 'onnxruntime-common';
import type { ElementType } from './graph.js';
import type { ModelPort } from './onnx.js';
import { copyGraph, openGraph, providerName } from './runtime.js';
import type { ExecutionProvider, OrtRuntime, OrtSession, OrtTensor } from './runtime.js';

type Location = 'cpu' | 'gpu-buffer';

/** The memory of one executor's device. */
export interface DeviceMemory {
  /** Opens the device. @throws EngineError when the provider does not start here. */
  open(): Promise<void>;
  /** What a run is given in the place of a value. */
  placed(value: OrtTensor): Promise<OrtTensor>;
  /** Where a run leaves its outputs, by their names. */
  locations(outputs: readonly ModelPort[]): Record<string, Location>;
  /** A value on the host: itself, or a copy. */
  onHost(value: OrtTensor): Promise<OrtTensor>;
  /** Gives up what stands on the device for a value of the host. */
  release(value: OrtTensor): void;
}

/** Providers whose tensors ONNX Runtime's JavaScript can hold. */
const HELD: readonly string[] = ['webgpu'];

/** Elements up to which a tensor travels with every run. */
const SMALL = 256;

/** Whether a provider computes in memory of its own that values can stay in. */
export function hasMemory(provider: ExecutionProvider): boolean {
  return HELD.includes(providerName(provider));
}

/**
 * Memory of the device that the providers compute on. One session stays open as long as it is in use: with the last one ONNX
 * Runtime would give up the device, the tensors on it, and the shaders it has compiled.
 */
export function deviceMemory(
  runtime: () => Promise<OrtRuntime>,
  executionProviders: readonly ExecutionProvider[],
): DeviceMemory {
  const seen = new WeakSet<OrtTensor>();
  const resident = new WeakMap<OrtTensor, Promise<OrtTensor>>();
  const copiers = new Map<string, Promise<OrtSession>>();

  const openCopier = async (preferredOutputLocation: Location, dtype: ElementType, rank: number) => {
    return openGraph(await runtime(), copyGraph(dtype, rank), {
      ...COPYING,
      executionProviders,
      preferredOutputLocation,
    });
  };
  const copier = (to: Location, dtype: ElementType, rank: number): Promise<OrtSession> => {
    const key = `${to} ${dtype} ${rank}`;
    const opened = copiers.get(key) ?? openCopier(to, dtype, rank);
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
    async placed(value) {
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
      copy?.then(
        (tensor) => {
          tensor.dispose();
        },
        () => undefined,
      ); // a copy that failed holds nothing
    },
  };
}

const COPYING: InferenceSession.SessionOptions = {
  // A graph that does nothing but pass its input on would have nothing left to copy.
  graphOptimizationLevel: 'disabled',
  logSeverityLevel: 4,
};

/** Whether a tensor travels with every run; one whose size differs from run to run does not. */
function isSmall(shape: readonly (number | string)[]): boolean {
  return shape.reduce<number>((size, dim) => size * (typeof dim === 'number' ? dim : Infinity), 1) <= SMALL;
}
