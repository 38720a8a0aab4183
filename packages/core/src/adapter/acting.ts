import type { AdapterLayers } from '../contracts/method.js';
import type { Model } from '../contracts/model.js';
import type { HostTensors } from '../tensors.js';
import type { PeftModel } from './peft-model.js';

/** What runs when a model is asked for outputs: its weights, and the layers that act on them. */
export interface ActingParts {
  readonly model: Model;
  readonly layers: AdapterLayers;
  /** Modules that stand in the place of the model's own: the head of the adapter. */
  readonly saved: AdapterLayers;
  readonly values: HostTensors;
}

/** The parts of a model that act as it stands: a plain model has no layers. */
export function actingParts(model: PeftModel | Model): ActingParts {
  if (!('adapters' in model)) return { model, layers: {}, saved: {}, values: {} };
  const { layers, saved, values } = model.adapter;
  return { model: model.model, layers, saved, values };
}
