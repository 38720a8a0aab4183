import type { AdapterContents } from '../contracts/method.js';
import type { Model } from '../contracts/model.js';
import { tensorKey, valuesOf, type Adapter } from '../adapter/peft-model.js';
import { isWithin } from '../adapter/targets.js';
import { transposed, type HostTensor, type HostTensors } from '../tensors.js';
import type { Site } from '../contracts/site.js';

/** The modules of an adapter that are trained whole, as torch holds them: `<path>.weight`, `<path>.bias`. */
export function savedModuleTensors({
  saved,
  values,
}: Pick<Adapter, 'saved'> & Pick<AdapterContents, 'values'>): HostTensors {
  const tensors: HostTensors = {};
  for (const layer of Object.values(saved)) {
    for (const [name, value] of Object.entries(valuesOf(layer, values))) {
      tensors[tensorKey(layer, name)] = turned(layer.site, name, value);
    }
  }
  return tensors;
}

/** A file's tensors, apart by whom they belong to. */
export interface SplitTensors {
  /** The method's own, as torch holds them. */
  readonly own: HostTensors;
  /** Those of modules trained whole, as TensorFlow.js holds them. */
  readonly saved: HostTensors;
  /** The paths of these modules. */
  readonly paths: readonly string[];
}

/** Takes the modules trained whole, the head and those that `names` name, out of the tensors of a file. */
export function splitSaved(tensors: HostTensors, model: Model, names: readonly string[]): SplitTensors {
  const sites = model.sites.filter(({ path }) => [...model.head, ...names].some((name) => isWithin(path, name)));
  const saved: HostTensors = {};
  const paths = new Set<string>();
  for (const site of sites) {
    for (const name of ['weight', 'bias']) {
      const tensor = tensors[`${site.path}.${name}`];
      if (!tensor) continue;
      saved[`${site.path}.${name}`] = turned(site, name, tensor);
      paths.add(site.path);
    }
  }
  const own = Object.fromEntries(Object.entries(tensors).filter(([key]) => !(key in saved)));
  return { own, saved, paths: [...paths] };
}

/** torch's orientation from ours, and ours from torch's: only a linear module's weight differs, and no Conv1D's. */
function turned({ kind, fanInFanOut }: Site, name: string, tensor: HostTensor): HostTensor {
  return kind === 'linear' && !fanInFanOut && name === 'weight' && tensor.shape.length === 2
    ? transposed(tensor)
    : tensor;
}
