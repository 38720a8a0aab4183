import { PeftError, pipeline } from 'peftjs';

let classifier; // opened at the first request: a build has no adapter yet

function opened() {
  classifier ??= pipeline('text-classification', './my-adapter').catch((error) => {
    classifier = undefined; // the next request tries again
    throw error;
  });
  return classifier;
}

export async function POST(request) {
  try {
    const classify = await opened();
    return Response.json(await classify(await request.text()));
  } catch (error) {
    if (error instanceof PeftError) return Response.json({ error: error.message }, { status: 400 });
    throw error;
  }
}
