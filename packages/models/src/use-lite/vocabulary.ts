import { CheckpointError } from '@peftjs/core';
import type { Network } from '../architecture.js';
import type { ModelFolder } from '../folder.js';
import { shown } from '../json.js';
import { createTokenizer, type Tokenizer, type TokenizerDefinition } from '../tokenizer.js';

const VOCABULARY_FILE = 'vocab.json';
const VOCABULARY_BYTES = 32 * 2 ** 20;

/** Unknown, start, end and three spare ids, which no text is turned into but for the unknown one. */
const RESERVED = 6;

/** A word piece and its log probability; the package lost that of seven pieces with a colon, which count as 0 as there. */
type Piece = readonly [string, number];

/**
 * The unigram tokenizer of vocab.json. A piece's id is its position there and its row in the embedding table.
 * @throws CheckpointError when it is broken, or larger than the embedding table.
 */
export async function readTokenizer(folder: ModelFolder, network: Network): Promise<Tokenizer> {
  const { definition, vocabularySize } = await readDefinition(folder, network);
  return createTokenizer(definition, {
    maxTokens: network.maxTokens,
    vocabularySize,
    file: folder.pathOf(VOCABULARY_FILE),
  });
}

/** The same tokenizer as a tokenizer.json has it. @throws CheckpointError like the other. */
export async function readDefinition(
  folder: ModelFolder,
  { sites }: Pick<Network, 'sites'>,
): Promise<{ definition: TokenizerDefinition; vocabularySize: number }> {
  const file = folder.pathOf(VOCABULARY_FILE);
  const pieces = parsePieces(await folder.json(VOCABULARY_FILE, VOCABULARY_BYTES), file);
  const rows = sites.find(({ kind }) => kind === 'embedding')?.inFeatures ?? 0;
  if (pieces.length <= RESERVED || pieces.length > rows) {
    throw new CheckpointError(
      `${file}: expected more than ${RESERVED} and at most ${rows} word pieces, one for each row of the embedding table, got ${pieces.length}`,
      file,
    );
  }
  return { definition: unigram(pieces), vocabularySize: pieces.length };
}

/** NFKC, then a separator before the text and in the place of each space: `Hi you` -> `▁Hi▁you`. */
function unigram(pieces: readonly Piece[]): TokenizerDefinition {
  const reserved = pieces.slice(0, RESERVED).map((_, id): Piece => [reservedToken(id), 0]);
  return {
    version: '1.0',
    added_tokens: [],
    normalizer: {
      type: 'Sequence',
      normalizers: [
        { type: 'NFKC' },
        { type: 'Prepend', prepend: '▁' },
        { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
      ],
    },
    pre_tokenizer: null,
    post_processor: null,
    decoder: null,
    model: { type: 'Unigram', unk_id: 0, vocab: [...reserved, ...pieces.slice(RESERVED)] },
  };
}

/** What a reserved id is called: no text has a space once it is normalised. */
function reservedToken(id: number): string {
  return ` ${id}`;
}

/** A spare one, which stands for padding where a tokenizer must have such a token. */
export const PADDING_TOKEN = reservedToken(3);

function parsePieces(content: unknown, file: string): Piece[] {
  if (!Array.isArray(content)) throw new CheckpointError(`${file}: expected a list of [piece, score] pairs`, file);
  return content.map((entry: unknown, position) => {
    const [piece, score] = Array.isArray(entry) ? (entry as unknown[]) : [];
    if (typeof piece === 'string' && piece !== '' && (score === null || Number.isFinite(score))) {
      return [piece, score === null ? 0 : (score as number)];
    }
    throw new CheckpointError(`${file}: entry ${position} must be a pair [piece, score], got ${shown(entry)}`, file);
  });
}
