/** Which tokens begin, end and fill up a text: by their text in the tokenizer's settings, or by their id in config.json. */
import type { ModelFolder } from '../folder.js';
import { field } from '../json.js';
import type { SpecialIds } from '../tokenizer.js';
import type { ConfigFile } from './config.js';

/** Settings of a tokenizer, the later version of transformers first. */
const SETTINGS_FILES = ['tokenizer_config.json', 'special_tokens_map.json'];

/** A template for conversations may be long, and every added token has its lines. */
const SETTINGS_BYTES = 32 * 2 ** 20;

/** The vocabulary that the tokens are of. */
interface Vocabulary {
  /** Ids by token. */
  readonly ids: ReadonlyMap<string, number>;
  /** Rows of the embedding table. */
  readonly rows: number;
}

/**
 * The ids of a folder's special tokens. A token that the vocabulary lacks, or an id without a row in the embedding table, counts as
 * none: what comes next is asked.
 * @throws CheckpointError when settings are too large or no JSON.
 */
export async function readSpecialIds(
  folder: ModelFolder,
  config: ConfigFile,
  vocabulary: Vocabulary,
): Promise<SpecialIds> {
  const settings = await readTokenizerSettings(folder);
  const idOf = (name: string): number | undefined => {
    const contents = settings.map((one) => contentOf(field(one, `${name}_token`)));
    const known = contents.find((content) => content !== undefined && vocabulary.ids.has(content));
    return known === undefined ? idIn(config, `${name}_token_id`, vocabulary) : vocabulary.ids.get(known);
  };
  return { eosTokenId: idOf('eos'), bosTokenId: idOf('bos'), padTokenId: idOf('pad') };
}

/**
 * What tokenizer_config.json and special_tokens_map.json hold; undefined where there is no such file.
 * @throws CheckpointError when one is too large or no JSON.
 */
export async function readTokenizerSettings(folder: ModelFolder): Promise<unknown[]> {
  const settings: unknown[] = [];
  for (const file of SETTINGS_FILES) {
    settings.push((await folder.exists(file)) ? await folder.json(file, SETTINGS_BYTES) : undefined);
  }
  return settings;
}

/** A token stands as its text, or as an object with that. */
export function contentOf(token: unknown): string | undefined {
  const content = typeof token === 'string' ? token : field(token, 'content');
  return typeof content === 'string' ? content : undefined;
}

/** An id, or the first of several. */
function idIn({ settings }: ConfigFile, name: string, { rows }: Vocabulary): number | undefined {
  const value = field(settings, name);
  const id: unknown = Array.isArray(value) ? value[0] : value;
  return Number.isInteger(id) && (id as number) >= 0 && (id as number) < rows ? (id as number) : undefined;
}
