import { PeftError, pipeline } from 'peftjs';

const MOST_BYTES = 64 * 1024; // tokenising a long text keeps this thread from answering others

let classifier; // opened at the first request: a build has no adapter yet

function opened() {
  classifier ??= pipeline('text-classification', './my-adapter').catch((error) => {
    classifier = undefined; // the next request tries again
    throw error;
  });
  return classifier;
}

/** The text of a request; undefined if it is too long. It is read to its end all the same: many clients read the answer only then. */
async function textOf(request) {
  const chunks = [];
  let bytes = 0;
  for await (const chunk of request.body ?? []) {
    bytes += chunk.length;
    if (bytes <= MOST_BYTES) chunks.push(chunk);
  }
  return bytes <= MOST_BYTES ? Buffer.concat(chunks).toString() : undefined;
}

export async function POST(request) {
  try {
    const text = await textOf(request);
    if (text === undefined)
      return Response.json({ error: `Expected a text of at most ${MOST_BYTES} bytes.` }, { status: 413 });
    const classify = await opened();
    return Response.json(await classify(text));
  } catch (error) {
    if (error instanceof PeftError) return Response.json({ error: error.message }, { status: 400 });
    throw error;
  }
}
