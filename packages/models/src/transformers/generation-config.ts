import type { ModelFolder } from '../folder.js';
import { field } from '../json.js';
import type { Tokenizer } from '../tokenizer.js';
import type { ConfigFile } from './config.js';

/** How a model is to write, where it says so itself. */
export const GENERATION_CONFIG_FILE = 'generation_config.json';

/** A few lines. */
const GENERATION_CONFIG_BYTES = 2 ** 20;

/**
 * The ids of the tokens that end what a model writes: of generation_config.json, else of config.json, else of the tokenizer. Ids
 * outside of the vocabulary count for nothing.
 * @throws CheckpointError when generation_config.json is too large or no JSON.
 */
export async function readEosTokenIds(
  folder: ModelFolder,
  { settings }: ConfigFile,
  { words, tokenizer }: { readonly words: number; readonly tokenizer: Tokenizer },
): Promise<number[]> {
  const own = (await folder.exists(GENERATION_CONFIG_FILE))
    ? await folder.json(GENERATION_CONFIG_FILE, GENERATION_CONFIG_BYTES)
    : {};
  const named = field(own, 'eos_token_id') ?? field(settings, 'eos_token_id') ?? tokenizer.eosTokenId;
  const ids: unknown[] = Array.isArray(named) ? named : [named];
  return ids.filter((id): id is number => Number.isInteger(id) && (id as number) >= 0 && (id as number) < words);
}
