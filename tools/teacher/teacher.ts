import { activeAdapter, attach, hostTensor, withAdapter, type Model, type PeftModel } from '@peftjs/core';
import { floats, tensorAt, type HostTensor, type HostTensors, type Rng } from '@peftjs/core/method';
import { qr, transposed } from '@peftjs/core/linalg';
import { lora } from '@peftjs/lora';
import { standardDeviation } from 'simple-statistics';
import type { Ranks } from './allocations.js';
import { meanSquaredError } from './rows.js';

/*
 * W + sum_i c_i u_i v_i^T in every module, with all u_i and all v_i of a module orthonormal. The effect on the logits
 * of changes of the same size differs between modules by ten times and more, and no method can find a rank without
 * effect. Therefore c_i is chosen such that each change alone has the same effect.
 */

/** The largest c_i, as a share of the weight's Frobenius norm. */
const LARGEST = 0.5;
/**
 * The first c_i whose effect is measured, and the number of corrections, because the effect is not proportional to c_i.
 */
const [FIRST, CORRECTIONS] = [0.05, 3];

/**
 * Returns the model with changes of these ranks.
 * @param effect standard deviation of the logits' change by each change alone, relative to that of the logits
 * @param logits returns the logits of some rows, [outputs] each, from a changed model
 */
export async function makeTeacher(
  model: Model,
  ranks: Ranks,
  effect: number,
  rng: Rng,
  logits: (changed: PeftModel) => Promise<readonly Float32Array[]>,
): Promise<PeftModel> {
  const known = Object.entries(ranks).filter(([, rank]) => rank > 0);
  const peft = attach(
    model,
    lora({
      targetModules: known.map(([path]) => path),
      rankPattern: Object.fromEntries(known),
      alphaPattern: Object.fromEntries(known), // A B is scaled by one
    }),
  );
  const { values, layers } = activeAdapter(peft); // B is zero: no change
  const untouched = await logits(peft);
  const wanted = effect * standardDeviation(untouched.flatMap((row) => [...row]));
  const changes: HostTensors = {};
  for (const [path, rank] of known) {
    const { inFeatures, outFeatures } = tensorAt(layers, path).site;
    const [nameA, nameB] = [`${path}.loraA`, `${path}.loraB`];
    const loraA = orthonormal(inFeatures, rank, rng.fork(nameA)); // [in, r]
    const v = floats(transposed(orthonormal(outFeatures, rank, rng.fork(nameB)))); // [r, out]
    const norm = Math.hypot(...floats(tensorAt(model.weights, `${path}.weight`)));
    const alone = (i: number, size: number): HostTensor =>
      hostTensor(
        v.map((value, at) => (Math.floor(at / outFeatures) === i ? size * value : 0)),
        [rank, outFeatures],
      );
    const loraB = new Float32Array(v.length);
    for (let i = 0; i < rank; i++) {
      let size = FIRST * norm;
      for (let correction = 0; correction < CORRECTIONS; correction++) {
        const changed = withAdapter(peft, { values: { ...values, [nameA]: loraA, [nameB]: alone(i, size) } });
        const found = Math.sqrt(meanSquaredError(await logits(changed), untouched));
        size = Math.min(LARGEST * norm, (size * wanted) / found);
      }
      floats(alone(i, size)).forEach((value, at) => (loraB[at] = (loraB[at] as number) + value));
    }
    Object.assign(changes, { [nameA]: loraA, [nameB]: hostTensor(loraB, [rank, outFeatures]) });
  }
  return withAdapter(peft, { values: { ...values, ...changes } });
}

/** Returns a matrix [rows, columns] with orthonormal columns. */
function orthonormal(rows: number, columns: number, rng: Rng): HostTensor {
  const gaussian = Float32Array.from({ length: rows * columns }, () => rng.normal());
  return qr(hostTensor(gaussian, [rows, columns])).q;
}
