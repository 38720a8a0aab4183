import type { Model } from '@peftjs/core';
import { UnsupportedError, warnOnce } from '@peftjs/core/method';
import { modelFolder, type Folder } from './folder.js';
import type { Pooling } from './pooling.js';
import { fromPretrained, loadModel, promptsOf, type PretrainedModel, type PretrainedOptions } from './pretrained.js';
import { MODULES_FILE, PROMPTS_FILE, readEmbeddingSettings } from './transformers/sentence-transformers.js';

/**
 * Loads the base model of an embedding adapter. Where sentence-transformers has written its files into the adapter's
 * folder, these decide on the pooling, the prompts and the length of texts, not those of the base model.
 * @throws UnsupportedError for modules after the pooling that the base model does not have.
 * @throws the errors of `fromPretrained`, and those for settings that cannot be read.
 */
export async function embedderForAdapter(
  base: string,
  options: PretrainedOptions,
  { path, storage }: Folder,
): Promise<PretrainedModel> {
  const folder = modelFolder(path, storage);
  const settings = await readEmbeddingSettings(folder);
  if (!settings) return fromPretrained(base, options);
  const hasPrompts = await folder.exists(PROMPTS_FILE);
  return loadModel(base, options, {
    embedding: (own) => {
      if (JSON.stringify(settings.modules ?? []) !== JSON.stringify(own?.modules ?? [])) {
        const file = folder.pathOf(MODULES_FILE);
        throw new UnsupportedError(
          `${file} has other modules after the pooling than the base model '${base}': merge the adapter where it was trained`,
          file,
        );
      }
      return { ...(own && !hasPrompts && promptsOf(own)), ...settings };
    },
  });
}

/** Warns if an adapter was trained with another pooling than the model's: its embeddings are then others. */
export async function warnOfOtherPooling(
  { path, storage }: Folder,
  { pooling }: Model & Partial<Pick<PretrainedModel, 'pooling'>>,
): Promise<void> {
  const own = await readEmbeddingSettings(modelFolder(path, storage));
  if (!own || !pooling || optionsOf(own) === optionsOf(pooling)) return;
  warnOnce(
    `the adapter in '${path}' was trained with ${optionsOf(own)}, but is used with ${optionsOf(pooling)}: load the model with the adapter's options`,
  );
}

function optionsOf({ pooling, normalize }: Pooling): string {
  return JSON.stringify({ pooling, normalize });
}
