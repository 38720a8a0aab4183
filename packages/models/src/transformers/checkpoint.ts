import { CheckpointError, labelsIn, type Task } from '@peftjs/core';
import type { Checkpoint, CheckpointFormat, WeightDtype } from '../checkpoint.js';
import { readChatTemplate, readEosTokenIds, readTokenizer } from './tokenizer.js';
import type { ModelFolder } from '../folder.js';
import { field, shown } from '../json.js';
import { CONFIG_FILE, readConfig, refuseUnless, type ConfigFile, type ModelType } from './config.js';
import { modelTypes } from '../architectures/model-types.js';
import { readWeights } from './weights.js';

/** A folder as transformers' `save_pretrained` writes it: config.json, model.safetensors (or shards) and tokenizer.json. */
export const transformersFormat: CheckpointFormat = {
  name: `a folder of transformers (${modelTypes.map(({ name }) => name).join(', ')})`,
  marker: CONFIG_FILE,
  read: readTransformers,
};

async function readTransformers(folder: ModelFolder, task: Task, dtype: WeightDtype): Promise<Checkpoint> {
  const config = await readConfig(folder);
  const modelType = modelTypeOf(config);
  refuseUnless(config, 'quantization_config', undefined);
  const architecture = modelType.architecture(config, task);
  const tokenizer = await readTokenizer(folder, architecture, config);
  const holdsHead = isFor(config, task);
  const { decoding } = architecture;
  const chatTemplate = decoding && (await readChatTemplate(folder));
  const eosTokenIds = decoding && (await readEosTokenIds(folder, config, { words: decoding.words, tokenizer }));
  return {
    architecture,
    tokenizer: chatTemplate ? { ...tokenizer, chatTemplate } : tokenizer,
    ...(eosTokenIds && { eosTokenIds }),
    ...(holdsHead && ownLabels(config)),
    ...(await readWeights(folder, architecture, { modelType, holdsHead, dtype })),
  };
}

/** The labels of a config.json; LABEL_0, .. are none, for transformers makes them up. */
function ownLabels({ settings }: ConfigFile): Pick<Checkpoint, 'labels'> {
  const labels = labelsIn(field(settings, 'id2label'));
  const isMadeUp = labels?.every((label, index) => label === `LABEL_${index}`) ?? true;
  return labels && !isMadeUp ? { labels } : {};
}

/** What the classes of transformers whose heads go by the same names are for. */
const CLASSES: readonly (readonly [suffix: string, task: Task])[] = [
  ['ForSequenceClassification', 'sequence-classification'],
  ['ForTokenClassification', 'token-classification'],
];

/** Whether the head of the class that a config.json names is one for the task; also where it names none. */
function isFor({ settings }: ConfigFile, task: Task): boolean {
  const names = field(settings, 'architectures');
  const [name] = Array.isArray(names) ? (names as unknown[]) : [];
  const known = CLASSES.find(([suffix]) => typeof name === 'string' && name.endsWith(suffix));
  return known === undefined || known[1] === task;
}

/** @throws CheckpointError for one that is not read. */
export function modelTypeOf({ file, settings }: ConfigFile): ModelType {
  const name = field(settings, 'model_type');
  const modelType = modelTypes.find((type) => type.name === name);
  if (modelType) return modelType;
  const known = modelTypes.map((type) => shown(type.name)).join(', ');
  throw new CheckpointError(`${file}: unknown 'model_type' ${shown(name)}; known ones are ${known}`, file);
}
