import { activeAdapter, attach, loadPretrained, type PeftModel } from '@peftjs/core';
import { lora } from '@peftjs/lora';
import { fromPretrained } from '@peftjs/models';
import { bertFolder } from '../models/bert-tiny.js';

const bert = fromPretrained(bertFolder);

/** Two adapters of the small BERT with different settings and weights. */
export async function twoAdapters(): Promise<readonly [PeftModel, PeftModel]> {
  const model = await bert;
  const [first, second] = [4, 32].map((loraAlpha) =>
    attach(model, lora({ r: 2, loraAlpha, initLoraWeights: false }), { seed: loraAlpha }),
  );
  return [first as PeftModel, second as PeftModel];
}

/** What differs between them: the scale and the values. */
export function contentOf(peft: PeftModel): unknown {
  const { config, values } = activeAdapter(peft);
  return [(config as { loraAlpha?: number }).loraAlpha, values];
}

/** Loads the adapter in a folder. */
export async function loaded(folder: string): Promise<unknown> {
  return contentOf(await loadPretrained(await bert, folder, { methods: [lora] }));
}
