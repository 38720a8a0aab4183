/** The post-processors of a tokenizer.json, which add special tokens, as in Hugging Face's tokenizers 0.23. */
import { field, fileError, listField, shown } from '../json.js';

/** A text and its pair in one sequence. */
export interface Sequence {
  /** The IDs of the texts' tokens and the names of special tokens, in order. */
  readonly tokens: readonly (number | string)[];
  /** The type of each token. */
  readonly types: number[];
}

/** Combines a text and its pair (or null) in one sequence. */
export type PostProcessor = (first: readonly number[], second: readonly number[] | null) => Sequence;

/** An item of a sequence and its token type: a special token by name, the text (0) or its pair (1). */
interface Place {
  readonly item: string | 0 | 1;
  readonly type: number;
}

interface Templates {
  readonly single: readonly Place[];
  readonly pair: readonly Place[];
}

const [TEXT, PAIR] = [0, 1].map((item) => ({ item, type: item })) as [Place, Place];
const PLAIN: Templates = { single: [TEXT], pair: [TEXT, PAIR] };

/**
 * Returns the post-processor. Without one, a pair follows its text.
 * @throws CheckpointError when it is unknown or broken.
 */
export function postProcessorOf(definition: unknown, file: string): PostProcessor {
  const { single, pair } = templatesOf(definition, file) ?? PLAIN;
  return (first, second) => {
    const tokens: (number | string)[] = [];
    const types: number[] = [];
    for (const { item, type } of second ? pair : single) {
      if (typeof item === 'string') tokens.push(item);
      else for (const id of (item === 0 ? first : second) ?? []) tokens.push(id);
      while (types.length < tokens.length) types.push(type);
    }
    return { tokens, types };
  };
}

/** The maximum number of places in a template. Published tokenizers have up to six. */
const MAX_PLACES = 100;

/** Returns the templates; undefined if there are no special tokens. */
function templatesOf(definition: unknown, file: string): Templates | undefined {
  if (definition === null || definition === undefined) return undefined;
  const type = String(field(definition, 'type'));
  if (type === 'Sequence') {
    const steps = listField(definition, 'processors', file).map((one) => templatesOf(one, file));
    const [only, ...others] = steps.filter((step) => step !== undefined);
    if (others.length === 0) return only;
    throw fileError(file, 'a post_processor that adds special tokens twice is not supported');
  }
  if (type === 'ByteLevel') return undefined;
  if (type === 'TemplateProcessing') return written(definition, file);
  if (type === 'BertProcessing' || type === 'RobertaProcessing') return classic(definition, type, file);
  throw fileError(
    file,
    `not a tokenizer: unknown post_processor '${type}'; known ones are BertProcessing, ByteLevel, RobertaProcessing, Sequence, TemplateProcessing`,
  );
}

/** BERT: cls A sep, then B sep of type 1; RoBERTa: cls A sep, then sep B sep, all of type 0. */
function classic(definition: unknown, type: string, file: string): Templates {
  const [cls, sep] = ['cls', 'sep'].map((name) => {
    const token = field(definition, name);
    if (Array.isArray(token) && typeof token[0] === 'string') return token[0];
    throw fileError(file, `not a tokenizer: expected a token '${name}', got ${shown(token)}`);
  }) as [string, string];
  const placed = (items: readonly Place['item'][], type: number): Place[] => items.map((item) => ({ item, type }));
  const single = placed([cls, 0, sep], 0);
  return { single, pair: [...single, ...(type === 'BertProcessing' ? placed([1, sep], 1) : placed([sep, 1, sep], 0))] };
}

function written(definition: unknown, file: string): Templates {
  const special = field(definition, 'special_tokens');
  const places = (name: string): Place[] => {
    const all = listField(definition, name, file).flatMap((place): Place[] => {
      const [own, text] = [field(place, 'SpecialToken'), field(place, 'Sequence')];
      const type = Number(field(own ?? text, 'type_id') ?? 0);
      const id = field(own ?? text, 'id');
      if (own !== undefined) {
        const tokens = field(field(special, String(id)), 'tokens') ?? [id];
        return (tokens as unknown[]).map((token) => ({ item: String(token), type }));
      }
      if (id === 'A' || id === 'B') return [{ item: id === 'A' ? 0 : 1, type }];
      throw fileError(file, `not a tokenizer: unknown place ${shown(place)} in '${name}'`);
    });
    if (all.length <= MAX_PLACES) return all;
    throw fileError(file, `'${name}' of the post_processor has more than ${MAX_PLACES} tokens`);
  };
  return { single: places('single'), pair: places('pair') };
}
