"""Publishing a checkpoint folder on the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

from compressai_gen.checkpoints.card import model_card
from compressai_gen.checkpoints.layout import CARD_NAME, CheckpointConfig


def publish(
    folder: Path,
    *,
    repo_id: str,
    license: str | None = None,
    commit_message: str | None = None,
    private: bool | None = None,
    token: str | None = None,
    create_pr: bool = False,
    subfolder: str | None = None,
) -> str:
    """Upload a checkpoint folder with a model card, and return the address of the commit.

    Args:
        folder: what ``save_model`` or ``save_pretrained`` wrote.
        repo_id: "org/name"; created if it does not exist.
        license: the Hub's licence identifier, for a new card.
        commit_message: "Upload model" by default.
        private: for a new repository.
        token: instead of the stored login.
        create_pr: open a pull request instead of committing.
        subfolder: path inside the repository; no card is written then.

    Raises:
        CheckpointError: if ``folder`` holds no checkpoint.
        huggingface_hub.errors.HfHubHTTPError: if the Hub refuses.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
    card = folder / CARD_NAME
    if subfolder is None and not card.exists() and not api.file_exists(repo_id, CARD_NAME):
        config = CheckpointConfig.read(folder)
        card.write_text(model_card(config, license=license, repo_id=repo_id), encoding="utf-8")
    commit = api.upload_folder(
        repo_id=repo_id,
        folder_path=folder,
        path_in_repo=subfolder,
        commit_message=commit_message or "Upload model",
        create_pr=create_pr,
    )
    return str(commit)
