"""GR-3: a vision-language-action model, its training data, training, export and deployment. No ROS."""
